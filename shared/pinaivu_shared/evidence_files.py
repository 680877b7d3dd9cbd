"""Files of evidence that people name on the command line: reading them, and what a verdict on them exits with.

Exit status: 0 valid, 1 not valid (the failing check is named), 2 cannot be read, or asked for in a way that cannot be
answered. With `--json` the last of these has no `valid`, for nothing was judged: `{"error": CODE, "detail": …}`.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pinaivu_shared.errors import CallerError, UnreadableError, VerificationError
from pinaivu_shared.report import printable

VALID, NOT_VALID, UNREADABLE = 0, 1, 2

_Found = TypeVar("_Found")


def read_file(name: str | Path, max_bytes: int) -> bytes:
    """All of a file; UnreadableError where it cannot be read or has more than `max_bytes`."""
    try:
        with Path(name).open("rb") as file:
            return _within(name, file.read(max_bytes + 1), max_bytes)
    except OSError as error:
        raise UnreadableError(f"{name}: {error.strerror}") from error


def read_evidence(name: str, max_bytes: int) -> bytes:
    """As `read_file`, with `-` for standard input; an empty name is somebody's empty variable: CallerError."""
    if not name:
        raise CallerError("the name of a file is empty")
    if name != "-":
        return read_file(name, max_bytes)
    try:
        return _within(name, sys.stdin.buffer.read(max_bytes + 1), max_bytes)
    except OSError as error:
        raise UnreadableError(f"{name}: {error.strerror}") from error


def judge(
    command: Callable[[], _Found],
    *,
    as_json: bool,
    fields: Callable[[_Found], Mapping[str, Any]],
    lines: Callable[[_Found], Iterable[str]],
) -> int:
    """Run a command, print what it found, as one object of `fields` or as `lines`, and say with what to exit."""
    try:
        found = command()
    except VerificationError as error:
        refusal = {"valid": False, "check": error.check, "detail": error.detail}
        return _refuse(NOT_VALID, f"not valid: {error}", refusal if as_json else None)
    except (UnreadableError, CallerError) as error:
        kind = "cannot be read" if isinstance(error, UnreadableError) else "cannot be asked so"
        refusal = {"error": error.code, "detail": str(error)}
        return _refuse(UNREADABLE, f"{kind}: {error}", refusal if as_json else None)
    for line in [json.dumps(fields(found))] if as_json else lines(found):
        print(line)  # noqa: T201 - the thing asked for
    return VALID


def _within(name: str | Path, content: bytes, max_bytes: int) -> bytes:
    if len(content) > max_bytes:
        raise UnreadableError(f"{name}: more than {max_bytes} bytes")
    return content


def _refuse(status: int, text: str, as_json: dict[str, Any] | None) -> int:
    if as_json is None:
        print(printable(text), file=sys.stderr)  # noqa: T201 - for people
    else:
        print(json.dumps(as_json))  # noqa: T201 - the thing asked for
    return status
