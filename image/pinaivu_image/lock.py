"""The lock: every input of an image by name, version and SHA-256, and no address of any server.

A package's `path` is relative to a mirror of its archive, so the machine's own mirror, or an archive of old packages,
serves it. `image.lock.json` beside this file is the one that releases are built from.
"""

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from pinaivu_image.errors import LockError

LOCK_FILE: Final = Path(__file__).with_name("image.lock.json")
Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
PoolPath = Annotated[str, msgspec.Meta(pattern=r"\Apool/[A-Za-z0-9._+~/%-]+\.deb\Z")]
Archive = Literal["debian", "debian-security"]


class Deb(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Debian package. `archive` says which mirror has `path`."""

    name: str
    version: str
    archive: Archive
    path: PoolPath
    size: int
    sha256: Sha256


class Wheel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One wheel, exactly this file of it."""

    name: str
    version: str
    filename: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._+-]+\.whl\Z")]
    sha256: Sha256


class ImageLock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a build reads beside this checkout."""

    version: Literal[1]
    suite: str
    kernel: Deb
    build: tuple[Deb, ...]
    boot: tuple[Deb, ...]
    wheels: tuple[Wheel, ...]


def read_lock(path: Path) -> ImageLock:
    """The lock in this file; LockError says what is wrong with it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ImageLock)
    except OSError as error:
        raise LockError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LockError(f"{path}: not a lock: {error}") from error


def write_lock(lock: ImageLock, path: Path) -> None:
    """Write it for people to compare: indented, one item a line."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(lock), indent=2) + b"\n")
