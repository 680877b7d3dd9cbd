"""`pinaivu node`: run a node, or show its identity."""

import argparse
import importlib.metadata
import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pinaivu_shared.errors import CallerError, UnreadableError
from pinaivu_shared.flags import add_flag

if TYPE_CHECKING:
    from pinaivu_node.agent import Agent
    from pinaivu_node.settings import NodeSettings

_USAGE: Final = 2
_NOT_GIVEN: Final = ""
_FLAGS: Final = {
    "gateway": "URL of the gateway, http(s):// or ws(s)://",
    "trust": "trust file that the enclave is judged by",
    "data-dir": "folder of the node's key and evidence; ~/.pinaivu/node unless given",
    "operator": "your name in the market; nodes of one operator never set each other's price",
    "input-price": "micro-USDC per million prompt tokens",
    "output-price": "micro-USDC per million completion tokens",
    "engine": "embedded (unless given), echo, echo:SETTINGS, or the URL of an OpenAI-protocol server",
    "engine-models": "models to offer, comma-separated, each NAME or NAME=ENGINE'S NAME; all unless given",
    "engine-api-key-file": "file with the engine's API key; PINAIVU_ENGINE_API_KEY may hold the key itself",
    "slots": "requests run at once; embedded 16, echo 1024, URL 64 unless given",
    "context-length": "longest context to offer in tokens, where less than the engine's",
    "quote-lifetime": "seconds for which a quote stands before it must be renewed; 60 unless given",
    "drain-seconds": "how long running jobs may go on after SIGTERM; 30 unless given",
    "log-level": "debug, info (unless given), warning or error",
}


def node(arguments: list[str]) -> int:
    """Run `pinaivu node` with these arguments and return its exit status."""
    parser = argparse.ArgumentParser(prog="pinaivu node", description="The GPU operator's agent.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="offer an engine to the market until SIGTERM")
    add_flag(run, "config", default=_NOT_GIVEN, text="TOML file with any of the flags below as keys")
    for name, text in _FLAGS.items():
        add_flag(run, name, default=_NOT_GIVEN, text=text)
    key = commands.add_parser("key", help="show the node's id and public key, made at the first use")
    add_flag(key, "data-dir", default=_NOT_GIVEN, text=_FLAGS["data-dir"])
    chosen = parser.parse_args(arguments)
    try:
        return _run(chosen) if chosen.command == "run" else _show_key(chosen.data_dir)
    except (CallerError, UnreadableError) as error:
        print(f"pinaivu node: {error}", file=sys.stderr)
        return _USAGE


def _show_key(data_dir: str) -> int:
    from pinaivu_node.keys import load_identity
    from pinaivu_node.settings import default_data_dir

    identity = load_identity(Path(data_dir) if data_dir else default_data_dir())
    print(json.dumps({"node_id": identity.node_id, "public_key": identity.public_key.hex()}))
    return 0


def _run(chosen: argparse.Namespace) -> int:
    import trio

    from pinaivu_node.settings import load_settings
    from pinaivu_shared.logs import configure_logging

    values = {name.replace("-", "_"): getattr(chosen, name.replace("-", "_")) for name in _FLAGS}
    values["engine_api_key"] = os.environ.get("PINAIVU_ENGINE_API_KEY", "")
    given = {name: value for name, value in values.items() if value != _NOT_GIVEN}
    settings = load_settings(given, Path(chosen.config) if chosen.config else None)
    configure_logging(settings.log_level)
    trio.run(_work, _agent(settings))
    return 0


def _agent(settings: "NodeSettings") -> "Agent":
    from pinaivu_node.agent import Agent
    from pinaivu_node.connection import open_connection
    from pinaivu_node.engines.supervisor import EngineSupervisor
    from pinaivu_node.evidence import EvidenceFile
    from pinaivu_node.keys import load_identity
    from pinaivu_node.quotes import Tariff
    from pinaivu_node.session import NodeProfile
    from pinaivu_shared.epoch import verify_epoch_live
    from pinaivu_shared.trust import parse_trust

    setup, jitter = settings.engine_setup(), random.SystemRandom().random
    profile = NodeProfile(
        identity=load_identity(settings.data_dir),
        operator=settings.operator,
        agent=f"pinaivu/{importlib.metadata.version('pinaivu')}",
        tariff=Tariff(
            input_price=settings.input_price,
            output_price=settings.output_price,
            slots=setup.slots,
            quote_lifetime_ms=settings.quote_lifetime * 1000,
        ),
        drain_seconds=settings.drain_seconds,
        verify=partial(verify_epoch_live, trust=parse_trust(_read(settings.trust))),
        now_ms=lambda: time.time_ns() // 1_000_000,
        entropy=os.urandom,
        keep=EvidenceFile(settings.data_dir).keep,
    )
    return Agent(profile, EngineSupervisor(setup, jitter), partial(open_connection, settings.gateway), jitter)


async def _work(agent: "Agent") -> None:
    """Run the agent. The first SIGTERM or SIGINT drains it, the second ends it at once."""
    import trio

    async with trio.open_nursery() as nursery:

        async def obey() -> None:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                told = aiter(signals)
                await anext(told)
                agent.drain()
                await anext(told)
                nursery.cancel_scope.cancel()

        nursery.start_soon(obey)
        await agent.run()
        nursery.cancel_scope.cancel()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"trust file: {error}") from error
