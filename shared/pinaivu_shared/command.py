"""The one command: `pinaivu <command>`. Each package brings its own through entry points."""

import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable

USAGE = 2


def main() -> int:
    """Find the named command among those whose package is installed and run it with the remaining arguments."""
    commands = _installed()
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if name == "--version":
        print(f"pinaivu {importlib.metadata.version('pinaivu')}")  # noqa: T201 - what was asked for
        return 0
    if name in {"-h", "--help"}:
        print("usage: pinaivu COMMAND …\n       pinaivu --version\n\ncommands: " + ", ".join(sorted(commands)))  # noqa: T201 - the help text
        return 0 if len(sys.argv) > 1 else USAGE
    if name not in commands:
        print(f"pinaivu: no command {name!r}; there are {', '.join(sorted(commands))}", file=sys.stderr)  # noqa: T201
        return USAGE
    return _run(commands[name], arguments)


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
