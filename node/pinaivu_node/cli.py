"""`pinaivu node`: run a node, see how it stands and what it gets, show its identity."""

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

from pinaivu_shared.errors import CallerError, UnreadableError
from pinaivu_shared.flags import add_flag, add_switch, parse_command

_USAGE: Final = 2
_NOT_GIVEN: Final = ""
_CONFIG: Final = (
    "TOML file with any of the flags below as keys, or with several [[engines]] instead of one; "
    "SIGHUP has its prices and slots read again"
)
_FLAGS: Final = {
    "gateway": "URL of the gateway, http(s):// or ws(s)://",
    "trust": "trust file that the enclave is judged by",
    "data-dir": "folder of the node's key and evidence; ~/.pinaivu/node unless given",
    "operator": "your name in the market, at most 31 characters without @",
    "fleet-key-file": "key that makes nodes yours: those with the same key and operator never set each other's price; "
    "fleet.key in --data-dir unless given, made at the first use",
    "input-price": "micro-USDC per million prompt tokens",
    "output-price": "micro-USDC per million completion tokens",
    "engine": "embedded (unless given), echo, echo:SETTINGS, or the URL of an OpenAI-protocol server",
    "engine-models": "models to offer, comma-separated, each NAME or NAME=ENGINE'S NAME; all unless given",
    "engine-capabilities": "what its models can do beside what is found (+tools) and what not (-logprobs), "
    "comma-separated, as --engine-capabilities=-logprobs,+tools",
    "engine-api-key-file": "file with the engine's API key; PINAIVU_ENGINE_API_KEY may hold the key itself",
    "slots": "requests run at once, shared by the models offered; embedded 16, echo 1024, URL 64 unless given",
    "context-length": "longest context to offer in tokens, where less than the engine's",
    "quote-lifetime": "seconds for which a quote stands before it must be renewed; 60 unless given",
    "drain-seconds": "how long running jobs may go on after SIGTERM; 30 unless given",
    "log-level": "debug, info (unless given), warning or error",
}


def node(arguments: list[str]) -> int:
    """Run `pinaivu node` with these arguments and return its exit status."""
    parser = argparse.ArgumentParser(prog="pinaivu node", description="The GPU operator's agent.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="offer engines to the market until SIGTERM")
    add_flag(run, "config", default=_NOT_GIVEN, text=_CONFIG)
    for name, text in _FLAGS.items():
        add_flag(run, name, default=_NOT_GIVEN, text=text)
    key = commands.add_parser("key", help="show the node's id and public key, made at the first use")
    add_flag(key, "data-dir", default=_NOT_GIVEN, text=_FLAGS["data-dir"])
    _add_operator_commands(commands)
    chosen = parse_command(parser, arguments)
    try:
        return _command(chosen)
    except (CallerError, UnreadableError) as error:
        print(f"pinaivu node: {error}", file=sys.stderr)
        return _USAGE


def _add_operator_commands(commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    status = commands.add_parser("status", help="show what the node does and how it stands; exits 1 when none runs")
    earnings = commands.add_parser("earnings", help="show what the node has earned, what is payable and what was paid")
    statement = commands.add_parser("statement", help="download a settlement statement and verify it offline")
    statement.add_argument(
        "statement", metavar="STATEMENT", help="its number, `latest`, or a file with one that was downloaded"
    )
    for command in (status, earnings, statement):
        add_flag(command, "data-dir", default=_NOT_GIVEN, text=_FLAGS["data-dir"])
        add_switch(command, "json", text="print one object")
    add_switch(status, "watch", text="go on until Ctrl-C: a live table, or with --json a line for each new status")
    for command in (earnings, statement):
        add_flag(command, "gateway", default=_NOT_GIVEN, text="URL of the gateway; the one of the node unless given")
    add_flag(statement, "trust", default=None, text="trust file")
    add_flag(statement, "output", default=_NOT_GIVEN, text="file to keep the statement in, with all that verifies it")


def _command(chosen: argparse.Namespace) -> int:
    match chosen.command:
        case "run":
            return _run(chosen)
        case "key":
            return _show_key(chosen.data_dir)
        case "status":
            from pinaivu_node.status_commands import show_status

            return show_status(chosen)
        case "earnings":
            from pinaivu_node.earnings_commands import show_earnings

            return show_earnings(chosen)
        case _:
            from pinaivu_node.statement_commands import show_statement

            return show_statement(chosen)


def _show_key(data_dir: str) -> int:
    from pinaivu_node.keys import load_identity
    from pinaivu_node.settings import default_data_dir

    def tell(path: Path) -> None:
        print(f"pinaivu node: made a new key, for a new node: {path}", file=sys.stderr)

    identity = load_identity(Path(data_dir) if data_dir else default_data_dir(), tell)
    print(json.dumps({"node_id": identity.node_id, "public_key": identity.public_key.hex()}))
    return 0


def _run(chosen: argparse.Namespace) -> int:
    import trio

    from pinaivu_node.node_folder import NodeFolder
    from pinaivu_node.process import build_agent, work
    from pinaivu_node.reload import reload_tariffs
    from pinaivu_node.settings import load_settings
    from pinaivu_shared.epoch import verify_epoch_live
    from pinaivu_shared.logs import configure_logging
    from pinaivu_shared.trust import parse_trust

    values = {name.replace("-", "_"): getattr(chosen, name.replace("-", "_")) for name in _FLAGS}
    values["engine_api_key"] = os.environ.get("PINAIVU_ENGINE_API_KEY", "")
    given = {name: value for name, value in values.items() if value != _NOT_GIVEN}
    load = partial(load_settings, given, Path(chosen.config) if chosen.config else None)
    settings = load()
    with NodeFolder(str(settings.data_dir)).in_use():
        configure_logging(settings.log_level)
        agent = build_agent(settings, partial(verify_epoch_live, trust=parse_trust(_read(settings.trust))))
        reload = partial(reload_tariffs, settings, load, agent.set_tariffs) if chosen.config else None
        trio.run(work, agent, reload)
    return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"trust file: {error}") from error
