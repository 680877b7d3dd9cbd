"""The lock: every input of an image by name, version and SHA-256, and no address of any server.

A package's `path` is relative to a mirror of its archive, so the machine's own mirror, or an archive of old packages,
serves it. `image.lock.json` beside this file is the one that releases are built from.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from pinaivu_image.contents import BOOT_FILES, BUILD_PACKAGES, KERNEL_SOURCE, SUITE
from pinaivu_image.errors import LockError

LOCK_FILE: Final = Path(__file__).with_name("image.lock.json")
Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
DebName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9+.-]+\Z")]
DebVersion = Annotated[str, msgspec.Meta(pattern=r"\A[0-9][A-Za-z0-9.+~:-]*\Z")]
PoolPath = Annotated[str, msgspec.Meta(pattern=r"\Apool(?:/[A-Za-z0-9_+~-][A-Za-z0-9._+~-]*)+\.deb\Z")]
"""No part of it begins with a dot, so none leads out of the mirror."""

Size = Annotated[int, msgspec.Meta(gt=0, le=1 << 32)]
Archive = Literal["debian", "debian-security"]


class Deb(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Debian package. `archive` says which mirror has `path`; `size` in bytes."""

    name: DebName
    version: DebVersion
    archive: Archive
    path: PoolPath
    size: Size
    sha256: Sha256


class Wheel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One wheel, exactly this file of it."""

    name: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9.-]*\Z")]
    version: Annotated[str, msgspec.Meta(pattern=r"\A[0-9][A-Za-z0-9.+!_]*\Z")]
    filename: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._+-]*\.whl\Z")]
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
        lock = msgspec.json.decode(path.read_bytes(), type=ImageLock)
    except OSError as error:
        raise LockError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LockError(f"{path}: not a lock: {error}") from error
    for misfit in _misfits(lock):
        raise LockError(f"{path}: does not fit this version of Pinaivu: {misfit}")
    return lock


def write_lock(lock: ImageLock, path: Path) -> None:
    """Write it for people to compare: indented, one item a line. LockError where it cannot be written."""
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(lock), indent=2) + b"\n")
    except OSError as error:
        raise LockError(f"{path}: {error.strerror}") from error


def _misfits(lock: ImageLock) -> Iterator[str]:
    """What keeps a lock from being one of this builder: `contents` names the packages, and the lock all of them."""
    if (lock.suite, lock.kernel.name) != (SUITE, KERNEL_SOURCE):
        yield f"it has {lock.suite} and {lock.kernel.name}, and not {SUITE} and {KERNEL_SOURCE}"
    for title, inputs in (("build", lock.build), ("boot", lock.boot), ("wheels", lock.wheels)):
        names = [one.name for one in inputs]
        doubled = {name for name in names if names.count(name) > 1}
        if doubled:
            yield f"{title} has {_listed(doubled)} twice"
    boot, build = {deb.name for deb in lock.boot}, {deb.name for deb in lock.build}
    if boot != BOOT_FILES.keys():
        yield f"boot has {_listed(boot - BOOT_FILES.keys())}, and lacks {_listed(BOOT_FILES.keys() - boot)}"
    if not build.issuperset(BUILD_PACKAGES):
        yield f"build lacks {_listed(set(BUILD_PACKAGES) - build)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing more"
