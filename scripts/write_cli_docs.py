"""Write docs/cli.md from the `--help` of every command. A test fails when the file is not what this writes."""

import os
import subprocess
import sys
from pathlib import Path

COMMANDS = (
    "verify",
    "attestation show",
    "attestation verify",
    "attestation trust",
    "auction explain",
    "dev",
    "demo",
    "host serve",
    "host create-key",
    "host create-operator-key",
    "host sign-order",
    "host backup",
    "host restore",
    "host kms-policy",
    "accounts create",
    "accounts show",
    "accounts list",
    "accounts deposit",
    "keys create",
    "keys list",
    "keys revoke",
    "image build",
    "image lock",
    "image inspect",
    "image diff",
    "image pcrs",
    "enclave serve",
    "node run",
    "node status",
    "node earnings",
    "node statement",
    "node key",
    "simulator enclave",
    "simulator kms",
    "simulator cheating-node",
    "simulator lying-link",
)
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
    sections = (f"## pinaivu {command}\n\n```text\n{_help(command)}```\n" for command in COMMANDS)
    return "\n".join([INTRODUCTION, *sections])


def _help(command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PINAIVU_")}
    program = [sys.executable, "-m", "pinaivu_shared.command", *command.split(), "--help"]
    ended = subprocess.run(
        program, check=True, capture_output=True, text=True, env={**environment, "COLUMNS": "100", "HOME": "/home/you"}
    )
    return ended.stdout


if __name__ == "__main__":
    TARGET.write_text(cli_docs())
