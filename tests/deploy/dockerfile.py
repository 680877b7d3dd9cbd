"""Reads a Dockerfile as far as these tests need: instructions in order, continued lines joined."""

import re
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
DOCKERFILES: Final = ("Dockerfile.enclave", "Dockerfile.host")
IGNORE: Final = "# hadolint ignore="


class Instruction(NamedTuple):
    """`name` is in capitals, `argument` has no line breaks."""

    name: str
    argument: str


def stages(name: str) -> list[list[Instruction]]:
    """The instructions of a Dockerfile of this repository by stage, each beginning with its FROM."""
    joined = re.sub(r"\s*\\\n\s*", " ", (ROOT / name).read_text())
    found: list[list[Instruction]] = []
    for line in joined.splitlines():
        if line and not line.startswith("#"):
            instruction, _, argument = line.partition(" ")
            if instruction == "FROM":
                found.append([])
            found[-1].append(Instruction(instruction, argument))
    return found


def commands(stage: list[Instruction]) -> list[str]:
    """The RUN steps of a stage that can run outside Docker: apt belongs to the base."""
    return [argument for name, argument in stage if name == "RUN" and not argument.startswith("apt-get")]
