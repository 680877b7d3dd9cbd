"""The node as a process: put together from its settings, and obedient to signals."""

import importlib.metadata
import os
import random
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import trio

from pinaivu_node.admission import EpochVerifier
from pinaivu_node.agent import Agent
from pinaivu_node.change import Change
from pinaivu_node.clock import now_ms
from pinaivu_node.connection import Connection, open_connection
from pinaivu_node.engine_pool import EnginePool
from pinaivu_node.engines.supervisor import EngineSupervisor
from pinaivu_node.evidence import EvidenceFiles
from pinaivu_node.keys import FLEET_KEY_FILE, load_identity, load_operator
from pinaivu_node.session import NodeProfile
from pinaivu_node.settings import NodeSettings
from pinaivu_node.status import StatusFile


def build_agent(
    settings: NodeSettings,
    verify: EpochVerifier,
    open_to: Callable[[str], AbstractAsyncContextManager[Connection]] = open_connection,
) -> Agent:
    """An agent that judges enclaves by `verify` and dials by `open_to`.

    CallerError when its key or an engine's cannot be read.
    """
    jitter, change = random.SystemRandom().random, Change()
    evidence = EvidenceFiles(settings.data_dir)
    profile = NodeProfile(
        identity=load_identity(settings.data_dir),
        operator=load_operator(settings.operator, settings.fleet_key_file or settings.data_dir / FLEET_KEY_FILE),
        gateway=settings.gateway,
        agent=f"pinaivu/{importlib.metadata.version('pinaivu')}",
        quote_lifetime_ms=settings.quote_lifetime * 1000,
        drain_seconds=settings.drain_seconds,
        verify=verify,
        now_ms=now_ms,
        entropy=os.urandom,
        keep_quote=evidence.keep_quote,
        keep_job=evidence.keep_job,
        show=StatusFile(settings.data_dir).write,
    )
    supervisors = [EngineSupervisor(setup, jitter, change) for setup in settings.engine_setups()]
    pool = EnginePool(supervisors, settings.tariffs(), change)
    return Agent(profile, pool, partial(open_to, settings.gateway), jitter)


async def work(agent: Agent, reload: Callable[[], None] | None) -> None:
    """Run the agent. The first SIGTERM or SIGINT drains it, the second ends it at once; SIGHUP calls `reload`.

    Without `reload` SIGHUP stays what it is to any process: the end of its terminal, and so its own.
    """
    async with trio.open_nursery() as nursery:
        if reload is not None:
            await nursery.start(obey_hangups, reload)
        await nursery.start(_obey_endings, agent, nursery.cancel_scope)
        await agent.run()
        nursery.cancel_scope.cancel()


async def obey_hangups(reload: Callable[[], None], *, task_status: trio.TaskStatus[None]) -> None:
    """Call `reload` for each SIGHUP from `started` on."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            reload()


async def _obey_endings(agent: Agent, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        told = aiter(signals)
        await anext(told)
        agent.drain()
        await anext(told)
        everything.cancel()
