"""Debian packages (deb(5)): an `ar` archive with a compressed tar of files in it. Read with the standard library."""

import io
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from pinaivu_image.errors import InputError

_MAGIC: Final = b"!<arch>\n"
_HEADER_BYTES: Final = 60


class PackageFile(NamedTuple):
    """One file or link: `path` without a leading slash, `mode` with its type bits, a link's `data` is its target."""

    path: str
    mode: int
    data: bytes


def read_deb(path: Path) -> Iterator[PackageFile]:
    """Every regular file and symbolic link of a package, hard links as files; InputError where it is no package."""
    name, member = _data_member(path)
    try:
        with tarfile.open(fileobj=io.BytesIO(member), mode="r:*") as archive:
            for entry in archive:
                if entry.isdir():
                    continue
                yield _package_file(archive, entry, path)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{path.name}: {name} cannot be unpacked: {error}") from error


def _package_file(archive: tarfile.TarFile, entry: tarfile.TarInfo, package: Path) -> PackageFile:
    place = str(PurePosixPath(entry.name))
    if place.startswith("/") or ".." in PurePosixPath(place).parts:
        raise InputError(f"{package.name}: {entry.name!r} lies outside the package")
    if entry.issym():
        return PackageFile(place, stat.S_IFLNK | 0o777, entry.linkname.encode())
    content = archive.extractfile(entry)
    if content is None:
        raise InputError(f"{package.name}: {entry.name!r} is neither a file nor a link")
    return PackageFile(place, stat.S_IFREG | (0o755 if entry.mode & 0o100 else 0o644), content.read())


def _data_member(path: Path) -> tuple[str, bytes]:
    raw = path.read_bytes()
    if not raw.startswith(_MAGIC):
        raise InputError(f"{path.name}: not a Debian package")
    start = len(_MAGIC)
    while start + _HEADER_BYTES <= len(raw):
        header = raw[start : start + _HEADER_BYTES]
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), header[48:58].strip()
        if not size.isdigit():
            break
        start += _HEADER_BYTES
        if name.startswith("data.tar"):
            return name, raw[start : start + int(size)]
        start += int(size) + int(size) % 2
    raise InputError(f"{path.name}: a Debian package without data")
