"""Debian packages (deb(5)): an `ar` archive with a compressed tar of files in it. Read with the standard library."""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from pinaivu_image.errors import InputError

_MAGIC: Final = b"!<arch>\n"
_HEADER_BYTES: Final = 60
_DATA: Final = "data.tar"
_UNPACK: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "": bytes,
    ".bz2": bz2.decompress,
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
}
_FOREIGN: Final = (
    tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, KeyError, OverflowError, RecursionError
)  # fmt: skip
"""What the readers of the standard library raise over nonsense. None of it may get out of here."""


class PackageFile(NamedTuple):
    """One file or link: `path` without a leading slash, `mode` with its type bits, a link's `data` is its target."""

    path: str
    mode: int
    data: bytes


def read_deb(name: str, raw: bytes) -> Iterator[PackageFile]:
    """Every regular file and symbolic link of a package, hard links as files; InputError where it is no package."""
    try:
        with tarfile.open(fileobj=io.BytesIO(_unpacked_data(name, raw)), mode="r:") as archive:
            for entry in archive:
                if not entry.isdir():
                    yield _package_file(archive, entry, name)
    except _FOREIGN as error:
        raise InputError(f"{name}: cannot be unpacked: {error}") from error


def require_inside(path: str, owner: str) -> str:
    """The path in its plain spelling, if it stays below the root of what it is unpacked to; else InputError."""
    plain = PurePosixPath(path)
    if plain.is_absolute() or ".." in plain.parts or not plain.parts or "\0" in path:
        raise InputError(f"{owner}: {path!r} lies outside the package")
    return str(plain)


def _package_file(archive: tarfile.TarFile, entry: tarfile.TarInfo, package: str) -> PackageFile:
    place = require_inside(entry.name, package)
    if entry.issym():
        return PackageFile(place, stat.S_IFLNK | 0o777, entry.linkname.encode("utf-8", "surrogateescape"))
    if not (entry.isreg() or entry.islnk()) or entry.issparse():
        raise InputError(f"{package}: {entry.name!r} is neither a file nor a link")
    content = archive.extractfile(entry)
    if content is None:
        raise InputError(f"{package}: {entry.name!r} is a link to no file")
    return PackageFile(place, stat.S_IFREG | (0o755 if entry.mode & 0o100 else 0o644), content.read())


def _unpacked_data(package: str, raw: bytes) -> bytes:
    name, member = _data_member(package, raw)
    unpack = _UNPACK.get(name.removeprefix(_DATA))
    if unpack is None:
        raise InputError(f"{package}: {name}: only {', '.join(filter(None, _UNPACK))} can be unpacked")
    return unpack(member)


def _data_member(package: str, raw: bytes) -> tuple[str, bytes]:
    if not raw.startswith(_MAGIC):
        raise InputError(f"{package}: not a Debian package")
    start = len(_MAGIC)
    while start + _HEADER_BYTES <= len(raw):
        header = raw[start : start + _HEADER_BYTES]
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), header[48:58].strip()
        if not size.isdigit():
            break
        start += _HEADER_BYTES
        if name.startswith(_DATA) and start + int(size) <= len(raw):
            return name, raw[start : start + int(size)]
        start += int(size) + int(size) % 2
    raise InputError(f"{package}: a Debian package without its data")
