"""What all commands for images share: how they end, what they say, and the names that flags give."""

import sys
from pathlib import Path

from pinaivu_shared.errors import CallerError
from pinaivu_shared.report import printable

DONE, DIFFERENT, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
NOT_GIVEN = "(not given)"
"""A flag that was left out; an empty one is somebody's empty variable, and is refused."""


def given(flag: str, name: str) -> Path:
    """The file or folder that a flag names; CallerError where it names none."""
    if not name:
        raise CallerError(f"--{flag} is empty")
    return Path(name)


def say(text: str) -> None:
    """One line for people."""
    print(f"pinaivu image: {printable(text)}", file=sys.stderr)  # noqa: T201 - for people
