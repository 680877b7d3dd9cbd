"""A file that a flag names."""

from pathlib import Path

from pinaivu_shared.errors import CallerError


def read_flag_file(path: str | Path, name: str) -> bytes:
    """The content of the file that the flag `name` names; CallerError, with the flag, where it cannot be read."""
    if path == "":
        raise CallerError(f"--{name} is empty: a file is expected")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CallerError(f"--{name} {path}: {error.strerror}") from error
