"""The one command: `pinaivu <command>`. Each package brings its own through entry points."""

import importlib.metadata
import importlib.util
import os
import select
import sys
from collections.abc import Callable, Collection

USAGE = 2
SUMMARIES = {
    "verify": "verify a receipt's bundle, offline",
    "attestation": "show or judge an attestation document, or write the trust file for a service",
    "auction": "explain who won an auction and at what price, from its transcript",
    "dev": "a whole network on this machine, which stays up",
    "demo": "one request, one receipt, one refusal, and an end",
    "node": "offer an engine's models in a market",
    "host": "serve the API beside an enclave; backups, the first key",
    "accounts": "accounts and their credit, at a running host",
    "keys": "API keys of an account, at a running host",
    "image": "build the enclave's image, measure and compare it",
    "enclave": "the program inside the enclave",
    "simulator": "single parts of a simulated network, dishonest ones too",
}
"""A line of help for each of our commands, in the order in which people are shown them."""
UNHEARD = 141
"""As a shell has it for a program that ended by SIGPIPE: nobody reads on (`… | head`)."""


def main() -> int:
    """Run the named command. Whoever stops reading ends it quietly, so that no verdict is taken from its status."""
    try:
        try:
            return _named()
        finally:
            print(end="", flush=True)  # noqa: T201 - what is still in the buffer would fail when Python ends
    except BrokenPipeError:
        if not _silence_unread():
            raise
        return UNHEARD


def _silence_unread() -> bool:
    """Lead what nobody reads into nothing, or Python fails again when it ends; False where all is read."""
    unread = [
        stream.fileno() for stream in (sys.stdout, sys.stderr) if stream is not None and _is_unread(stream.fileno())
    ]
    nothing = os.open(os.devnull, os.O_WRONLY)
    for descriptor in unread:
        os.dup2(nothing, descriptor)
    return bool(unread)


def _is_unread(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _named() -> int:
    """Find the named command among those whose package is installed and run it with the remaining arguments."""
    commands = _installed()
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if name == "--version":
        print(f"pinaivu {importlib.metadata.version('pinaivu')}")  # noqa: T201 - what was asked for
        return 0
    if name in {"-h", "--help"}:
        print(f"usage: pinaivu COMMAND …\n       pinaivu --version\n\ncommands:\n{_listed(commands)}")  # noqa: T201 - the help text
        return 0 if len(sys.argv) > 1 else USAGE
    if name not in commands:
        print(f"pinaivu: no command {name!r}; there are {', '.join(sorted(commands))}", file=sys.stderr)  # noqa: T201
        return USAGE
    return _run(commands[name], arguments)


def _listed(commands: Collection[str]) -> str:
    """A line each, those of other packages at the end; `pinaivu COMMAND --help` says more."""
    first = [name for name in SUMMARIES if name in commands]
    names = [*first, *sorted(set(commands) - set(first))]
    return "\n".join(f"  {name:11}  {SUMMARIES.get(name, '')}".rstrip() for name in names)


def _installed() -> dict[str, importlib.metadata.EntryPoint]:
    points = importlib.metadata.entry_points(group="pinaivu.commands")
    return {point.name: point for point in points if importlib.util.find_spec(point.module.split(".")[0])}


def _run(point: importlib.metadata.EntryPoint, arguments: list[str]) -> int:
    """Run a command, whose heavy imports may come as late as its work: a package of its extra can be missing there."""
    try:
        command: Callable[[list[str]], int] = point.load()
        return command(arguments)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("pinaivu_"):
            raise
        extra = point.module.split(".")[0].removeprefix("pinaivu_")
        needed = "pinaivu" if extra == "shared" else f"pinaivu[{extra}]"
        print(f"pinaivu {point.name}: {error.name} is missing; install {needed}", file=sys.stderr)  # noqa: T201
        return USAGE


if __name__ == "__main__":
    raise SystemExit(main())
