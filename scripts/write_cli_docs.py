"""Write docs/cli.md from the `--help` of every command. A test fails when the file is not what this writes."""

import os
import re
import subprocess
import sys
from pathlib import Path

COMMANDS = (
    "verify",
    "attestation",
    "auction",
    "dev",
    "demo",
    "host",
    "accounts",
    "keys",
    "image",
    "enclave",
    "node",
    "simulator",
)
"""In the page's order; the sub-commands of each follow in that of its own help."""
TARGET = Path(__file__).parents[1] / "docs" / "cli.md"
INTRODUCTION = """\
# Commands

Written by `scripts/write_cli_docs.py` from `--help`. Each flag has an environment variable, shown in brackets;
flags win. Machine output goes to stdout, everything for people to stderr.
Exit status: 0 done or valid, 1 not valid, 2 cannot be
read or wrong usage.
"""


def cli_docs() -> str:
    """The whole page."""
    sections = [f"## pinaivu {command}\n\n```text\n{text}```\n" for name in COMMANDS for command, text in _helps(name)]
    return "\n".join([INTRODUCTION, *sections])


def _helps(command: str) -> list[tuple[str, str]]:
    """The help of a command, or in place of it that of each of its sub-commands."""
    text = _help(command)
    _, _, listed = text.partition("\n  COMMAND\n")
    names = re.findall(r"^    (\S+)", listed, re.MULTILINE)
    return [one for name in names for one in _helps(f"{command} {name}")] or [(command, text)]


def _help(command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PINAIVU_")}
    program = [sys.executable, "-m", "pinaivu_shared.command", *command.split(), "--help"]
    ended = subprocess.run(
        program, check=True, capture_output=True, text=True, env={**environment, "COLUMNS": "100", "HOME": "/home/you"}
    )
    return ended.stdout


if __name__ == "__main__":
    TARGET.write_text(cli_docs())
