"""A running agent that dials a gateway of the test's own."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
import trio_websocket

from pinaivu_node.agent import Agent
from pinaivu_node.change import Change
from pinaivu_node.connection import open_connection
from pinaivu_node.engine_pool import EnginePool
from pinaivu_node.engines.access import EngineSetup
from pinaivu_node.engines.choice import UrlChoice
from pinaivu_node.engines.discovery import ServedModel
from pinaivu_node.engines.openai import OpenAIEngine
from pinaivu_node.engines.supervisor import EngineSupervisor, Offering
from pinaivu_node.job import ProvenJob
from pinaivu_node.quotes import Acknowledged
from pinaivu_node.session import NodeProfile
from pinaivu_node.status import NodeStatus
from pinaivu_node.tariff import Tariff
from pinaivu_shared.terms import Capabilities
from pinaivu_shared.wire.node import (
    NODE_PATH,
)

from .market import ALICE, MODEL, NODE, NOW_MS, TARIFF, Counter, Enclave, Gateway, judge

NOWHERE = "http://127.0.0.1:9"


class StandingEngine(EngineSupervisor):
    """An engine whose readiness the test sets."""

    def __init__(self, address: str, change: Change) -> None:
        super().__init__(EngineSetup(choice=UrlChoice(address), slots=1), lambda: 0.0, change)
        self.engine = OpenAIEngine(address, api_key="", connections=8)

    async def run(self) -> None:
        async with self.engine:
            await trio.sleep_forever()

    def become_ready(self, *names: str, context_length: int = 4096, capabilities: Capabilities = ("chat",)) -> None:
        models = (ServedModel(name, "llama", context_length, capabilities, extras={}) for name in names or (MODEL,))
        self._set(Offering(self.engine, tuple(models)))

    def fail(self) -> None:
        self._set(None)


class Network:
    """A running agent, and the connections it makes, in order."""

    def __init__(
        self, agent: Agent, engines: Sequence[StandingEngine], connections: trio.MemoryReceiveChannel[Gateway]
    ) -> None:
        self.agent, self.engines, self.connections = agent, engines, connections
        self.engine = engines[0]
        self.kept: list[Acknowledged] = []
        self.proven: list[ProvenJob] = []
        self.shown: list[NodeStatus] = []
        self.left = trio.Event()

    async def connection(self) -> Gateway:
        return await self.connections.receive()

    async def open(self) -> Counter:
        return await (await self.connection()).open()


@asynccontextmanager
async def network(
    *addresses: str,
    tariff: Tariff = TARIFF,
    tariffs: Sequence[Tariff] = (),
    quote_lifetime_ms: int = 600_000,
    drain_seconds: float = 30,
    refusals: Sequence[int] = (),
) -> AsyncIterator[Network]:
    """A gateway and an agent that dials it. The first engine is ready; the clock stands still at NOW_MS.

    There is an engine for each of `tariffs`, at `addresses` as far as they go. The first handshakes are answered with
    the HTTP statuses `refusals`.
    """
    arrivals, connections = trio.open_memory_channel[Gateway](8)
    enclave, nonces, change = Enclave(), iter(range(1, 100)), Change()
    asked = tariffs or (tariff,)
    engines = [StandingEngine(one, change) for one in [*addresses, *[NOWHERE] * len(asked)][: len(asked)]]
    engines[0].become_ready()
    sessions = (f"ses_{number:032x}" for number in range(1, 100))

    refused = iter(refusals)

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        assert request.path == NODE_PATH
        if status := next(refused, None):
            await request.reject(status)
            return
        websocket = await request.accept()
        await arrivals.send(Gateway(websocket, enclave, next(sessions)))
        await trio.sleep_forever()

    kept: list[Acknowledged] = []
    proven: list[ProvenJob] = []
    shown: list[NodeStatus] = []
    profile = NodeProfile(
        identity=NODE,
        operator=ALICE,
        gateway="ws://gateway.test/node/v1/connect",
        agent="pinaivu/test",
        quote_lifetime_ms=quote_lifetime_ms,
        drain_seconds=drain_seconds,
        verify=judge,
        now_ms=lambda: NOW_MS,
        entropy=lambda size: next(nonces).to_bytes(size),
        keep_quote=kept.append,
        keep_job=proven.append,
        show=shown.append,
    )
    async with trio.open_nursery() as nursery:
        start: Callable[..., Any] = partial(trio_websocket.serve_websocket, ssl_context=None)
        server = await nursery.start(start, serve, "127.0.0.1", 0)
        dial = partial(open_connection, f"ws://127.0.0.1:{server.port}{NODE_PATH}")
        agent = Agent(profile, EnginePool(engines, asked, change), dial, lambda: 0.0)
        running = Network(agent, engines, connections)
        running.kept, running.proven, running.shown = kept, proven, shown
        nursery.start_soon(_run, running)
        yield running
        nursery.cancel_scope.cancel()


async def _run(running: Network) -> None:
    await running.agent.run()
    running.left.set()
