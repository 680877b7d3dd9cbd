"""Files that people name on the command line, written whole or not at all."""

import os
from pathlib import Path

from pinaivu_shared.errors import CallerError


def write_file(name: str | Path, content: bytes) -> None:
    """Write beside it and move it there: a full disk leaves what was there before. CallerError.

    What is no plain file (`/dev/stdout`, a pipe) is written to, and not replaced.
    """
    path = Path(os.path.realpath(name))
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        staged = path.with_name(f".pinaivu-{os.getpid()}.new")
        try:
            staged.write_bytes(content)
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)
    except OSError as error:
        raise CallerError(f"{name}: {error.strerror}") from error


def require_writable(flag: str, output: Path) -> None:
    """Minutes before it is written. CallerError."""
    folder = output.absolute().parent
    if not folder.is_dir() or os.path.isdir(output):  # noqa: PTH112 - Path.is_dir raises where nobody may look
        raise CallerError(f"--{flag} {output}: not a file in a folder that exists")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CallerError(f"--{flag} {output}: not allowed to write there")
