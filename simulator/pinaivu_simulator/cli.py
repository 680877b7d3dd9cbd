"""Commands of the simulator: `pinaivu dev`, `pinaivu demo`, `pinaivu simulator` with its parts, dishonest ones too."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import trio

from pinaivu_shared.errors import PinaivuError
from pinaivu_shared.flags import add_flag, add_switch, parse_command
from pinaivu_shared.logs import configure_logging
from pinaivu_simulator.ports import PORT_MAX, free_port


def dev(arguments: list[str]) -> int:
    """Run `pinaivu dev`; 0 after SIGTERM, 2 when it cannot start."""
    from pinaivu_simulator.dev import default_folder, run_dev
    from pinaivu_simulator.network import NetworkPlan

    parser = argparse.ArgumentParser(prog="pinaivu dev", description="A whole network on one machine.")
    add_flag(parser, "port", default="8080", text="HTTP port on 127.0.0.1; 0 for any free one")
    add_flag(parser, "data-dir", default=str(default_folder()), text="folder that holds everything lasting")
    add_flag(parser, "nodes", default="3", text="how many GPU nodes")
    add_flag(parser, "engine", default="embedded", text="embedded, echo[:settings] or the URL of an engine")
    add_flag(parser, "slots", default="", text="jobs each node takes at once; empty for the engine's default")
    add_flag(parser, "log-level", default="warning", text="debug, info, warning or error")
    add_switch(parser, "json", text="print one line of JSON on stdout when ready")
    chosen = parser.parse_args(arguments)
    configure_logging(chosen.log_level)
    port = _number(parser, chosen.port)
    if port > PORT_MAX:
        parser.error(f"there is no port {port}")
    plan = NetworkPlan(
        port=port or free_port(),
        folder=Path(chosen.data_dir),
        nodes=_number(parser, chosen.nodes),
        engine=chosen.engine,
        slots=_number(parser, chosen.slots) if chosen.slots else None,
        log_level=chosen.log_level,
    )
    return _run(lambda: trio.run(lambda: run_dev(plan, as_json=chosen.json)))


def demo(arguments: list[str]) -> int:
    """Run `pinaivu demo`; 0 when everything shown was as it should be, 1 when not."""
    from pinaivu_simulator.demo import demo_plan, run_demo

    parser = argparse.ArgumentParser(prog="pinaivu demo", description="One request, one receipt, one refusal.")
    add_flag(parser, "log-level", default="error", text="debug, info, warning or error")
    chosen = parser.parse_args(arguments)
    configure_logging(chosen.log_level)
    with tempfile.TemporaryDirectory(prefix="pinaivu-demo-") as folder:
        plan = demo_plan(Path(folder), free_port(), log_level=chosen.log_level)
        return _run(lambda: 0 if trio.run(run_demo, plan) else 1)


def simulator(arguments: list[str]) -> int:
    """Run one simulated part; 0 after SIGTERM, 2 when it cannot start."""
    parser = argparse.ArgumentParser(prog="pinaivu simulator", description="Parts of a simulated network.")
    commands = parser.add_subparsers(required=True, dest="part", metavar="COMMAND")
    enclave = commands.add_parser("enclave", help="the enclave program on a simulated platform")
    add_flag(enclave, "listen", default=None, text="path of the Unix socket that stands for vsock")
    add_flag(enclave, "parent", default=None, text="path before `_PORT` of the parent's Unix sockets")
    add_flag(enclave, "data-dir", default=None, text="folder of the simulated platform")
    add_flag(enclave, "log-level", default="info", text="debug, info, warning or error")
    kms = commands.add_parser("kms", help="a KMS that gives data keys to attested enclaves of the simulated platform")
    add_flag(kms, "listen", default="127.0.0.1:0", text="address and port; port 0 for any free one")
    add_flag(kms, "data-dir", default=None, text="folder of the simulated platform")
    add_flag(kms, "policy", default=None, text="file with the key policy; while there is none, nobody is let in")
    add_flag(kms, "log-level", default="info", text="debug, info, warning or error")
    _add_dishonest_parts(commands)
    chosen = parse_command(parser, arguments)
    configure_logging(chosen.log_level)
    if chosen.part == "cheating-node":
        return _cheat(parser, chosen)
    if chosen.part == "lying-link":
        return _lie(parser, chosen)
    if chosen.part == "kms":
        from pinaivu_simulator.kms.program import run_kms

        return _run(lambda: trio.run(run_kms, chosen.listen, Path(chosen.data_dir), Path(chosen.policy)))
    from pinaivu_simulator.enclave import serve_enclave

    return _run(lambda: trio.run(serve_enclave, Path(chosen.listen), Path(chosen.parent), Path(chosen.data_dir)))


def _add_dishonest_parts(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    node = commands.add_parser("cheating-node", help="a node that cheats, against a network of your own")
    add_flag(node, "cheat", default="list", text="which cheat; list shows them all")
    add_flag(node, "gateway", default="", text="URL of the gateway")
    add_flag(node, "trust", default="", text="trust file that the enclave is judged by")
    add_flag(node, "data-dir", default="", text="folder of the node's key")
    add_flag(node, "operator", default="cheat", text="name in the market")
    add_flag(node, "input-price", default="2000", text="micro-USDC per million prompt tokens")
    add_flag(node, "output-price", default="6000", text="micro-USDC per million completion tokens")
    add_flag(node, "engine", default="echo", text="what answers, as for pinaivu node run")
    add_flag(node, "victim", default="", text="public key in hex of the node that is impersonated, where one is")
    add_flag(node, "seed", default="0", text="what its chance begins with: the same seed, the same cheats")
    add_flag(node, "log-level", default="info", text="debug, info, warning or error")
    link = commands.add_parser("lying-link", help="a host that lies, between a real host and its enclave")
    add_flag(link, "lie", default="list", text="which lie; list shows them all")
    add_flag(link, "listen", default="", text="where the host is told that its enclave is, unix:PATH")
    add_flag(link, "enclave", default="", text="where the enclave really is, unix:PATH")
    add_flag(link, "seed", default="0", text="what its chance begins with: the same seed, the same lies")
    add_flag(link, "log-level", default="info", text="debug, info, warning or error")


def _cheat(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    from pinaivu_simulator.cheats.program import LIST, CheatingPlan, cheat_sentences, run_cheating_node

    if chosen.cheat == LIST:
        print(cheat_sentences())
        return 0
    plan = CheatingPlan(
        cheat=chosen.cheat,
        gateway=chosen.gateway,
        trust=Path(chosen.trust),
        data_dir=Path(chosen.data_dir),
        operator=chosen.operator,
        input_price=chosen.input_price,
        output_price=chosen.output_price,
        engine=chosen.engine,
        seed=_number(parser, chosen.seed),
        victim=chosen.victim,
    )
    return _run(lambda: trio.run(run_cheating_node, plan))


def _lie(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    from pinaivu_simulator.lies.program import LIST, lie_sentences, run_lying_link

    if chosen.lie == LIST:
        print(lie_sentences())
        return 0
    seed = _number(parser, chosen.seed)
    return _run(lambda: trio.run(run_lying_link, chosen.lie, chosen.listen, chosen.enclave, seed))


def _run(command: Callable[[], int | None]) -> int:
    status = 2
    try:
        status = command() or 0
    except* PinaivuError as errors:
        _say(errors)
    except* KeyboardInterrupt:
        status = 130
    return status


def _say(errors: BaseExceptionGroup[PinaivuError]) -> None:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            _say(error)
        else:
            print(f"pinaivu: {error}", file=sys.stderr)


def _number(parser: argparse.ArgumentParser, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        parser.error(f"{text!r} is not a number")
    return int(text)
