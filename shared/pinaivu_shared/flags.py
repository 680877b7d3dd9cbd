"""Command-line flags, each with an environment variable `PINAIVU_<FLAG>`: flag over environment over default."""

import argparse
import os
import sys
from typing import Final

USAGE: Final = 2
NOT_GIVEN: Final = "(not given)"
"""The default of a flag whose empty value is somebody's empty variable, and not the same as leaving it out."""


def variable_of(name: str) -> str:
    """The environment variable of a flag: `data-dir` has `PINAIVU_DATA_DIR`."""
    return "PINAIVU_" + name.upper().replace("-", "_")


def add_flag(parser: argparse.ArgumentParser, name: str, *, default: str | None, text: str) -> None:
    """Add `--name VALUE`. Without a default the flag or its variable is required."""
    variable = variable_of(name)
    value = os.environ.get(variable, default)
    shown = f"{text} [{variable}]" if default in {None, "", NOT_GIVEN} else f"{text} (default {default}) [{variable}]"
    parser.add_argument(f"--{name}", default=value, required=value is None, help=shown.replace("%", "%%"))


def parse_command(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """What was given to a program whose first argument is a command; its help, which lists them, where none was."""
    if not arguments:
        parser.print_help(sys.stderr)
        raise SystemExit(USAGE)
    return parser.parse_args(arguments)


def add_switch(parser: argparse.ArgumentParser, name: str, *, text: str) -> None:
    """Add `--name`, off unless given or its variable is `1`."""
    variable = variable_of(name)
    parser.add_argument(
        f"--{name}", action="store_true", default=os.environ.get(variable) == "1", help=f"{text} [{variable}=1]"
    )
