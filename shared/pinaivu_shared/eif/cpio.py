"""Ramdisks: archives in cpio's "newc" format, written deterministically and read strictly.

Each entry is 110 characters of header (13 numbers of 8 hex digits behind the magic), the path with a NUL, and the
content, the latter two padded to 4 bytes. Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst
and init/initramfs.c, which unpacks whatever follows: more archives, zeros between them, compressed ones too.

Where the kernel would skip, cut off or reinterpret something in silence, `read_cpio` refuses, so that the entries it
gives are those that the kernel unpacks. What they make of each other, over links for example, is not looked at here.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from stat import (
    S_IFBLK,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
    S_ISBLK,
    S_ISCHR,
    S_ISDIR,
    S_ISLNK,
    S_ISREG,
)
from typing import Final, NoReturn

from pinaivu_shared.eif.budget import Budget
from pinaivu_shared.eif.compression import compression_of, unpack_gzip
from pinaivu_shared.eif.errors import EifError
from pinaivu_shared.errors import CallerError

PART: Final = "ramdisk"
PADDING_BYTES: Final = 512
MAX_PATH_BYTES: Final = 4096  # Linux's PATH_MAX, the NUL included
MAX_NUMBER: Final = (1 << 32) - 1  # eight hex digits
MAX_OWNER: Final = MAX_NUMBER - 1  # chown(2) takes the largest number for "leave it"
MAX_DEVICE: Final = ((1 << 12) - 1, (1 << 20) - 1)  # Linux keeps this much of major and minor

_MAGIC: Final = b"070701"
_MAGIC_WITH_SUM: Final = b"070702"
_FILE_TYPES: Final = (S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK)
_OLD_MAGICS: Final = (b"070707", b"\xc7\x71", b"\x71\xc7")
_HEADER_BYTES: Final = 110
_TRAILER: Final = "TRAILER!!!"
_HEX_DIGITS: Final = frozenset(b"0123456789abcdefABCDEF")


@dataclass(frozen=True, kw_only=True, slots=True)
class CpioEntry:
    """A file, directory, link or device of a ramdisk.

    `mode` has the type bits of stat(2); `data` is a file's content or a symbolic link's target. `rdev` is a device's
    (major, minor). Owner and time are those of every entry we write: root, and the beginning of 1970.
    """

    path: str
    """Relative, without leading slash; bytes that are not UTF-8 stand as lone surrogates (PEP 383)."""
    mode: int
    data: bytes = field(default=b"", repr=False)
    rdev: tuple[int, int] = (0, 0)
    uid: int = 0
    gid: int = 0
    mtime_s: int = 0
    linked: bool = False
    """Whether other entries of its archive are links of the same file: what is written into one is in all."""

    @property
    def sha256(self) -> bytes:
        """SHA-256 of `data`."""
        return hashlib.sha256(self.data).digest()


def with_parents(entries: Iterable[CpioEntry]) -> tuple[CpioEntry, ...]:
    """The entries and, with mode 0755, each directory above them that is not among them."""
    given = tuple(entries)
    present = {entry.path for entry in given}
    missing = {parent for path in present for parent in _parents(path)} - present
    return (*given, *(CpioEntry(path=path, mode=S_IFDIR | 0o755) for path in sorted(missing)))


def write_cpio(entries: Iterable[CpioEntry]) -> bytes:
    """One archive, padded to 512 bytes: the same entries in any order give the same bytes.

    Sorted by path, parents first; inode numbers count from 1, so no two entries are links of one file. Raises
    CallerError for a path that is not relative and plain, occurs twice, or lacks its directory: the kernel would
    drop such a file without a word.
    """
    ordered = sorted(entries, key=lambda entry: [_path_bytes(part) for part in entry.path.split("/")])
    archive, directories, seen = bytearray(), {""}, set[str]()
    for inode, entry in enumerate(ordered, start=1):
        _require_writable(entry, directories)
        if entry.path in seen:
            raise CallerError(f"ramdisk: {entry.path!r} is there twice")
        seen.add(entry.path)
        if S_ISDIR(entry.mode):
            directories.add(entry.path)
        _append(archive, inode, entry)
    _append(archive, 0, CpioEntry(path=_TRAILER, mode=0))
    _pad(archive, PADDING_BYTES)
    return bytes(archive)


def read_cpio(raw: bytes, budget: Budget | None = None) -> tuple[CpioEntry, ...]:
    """Every entry of a ramdisk in its order; hard links carry their file's content each.

    Takes from the `budget` of the image, which is one of its own for a ramdisk that is looked at alone. Raises
    EifError("ramdisk").
    """
    allowed = Budget() if budget is None else budget
    found: list[CpioEntry] = []
    position, after_archive = 0, False
    while position < len(raw):
        kind = compression_of(raw, position)
        if raw[position] == 0:
            position = _skip_zeros(raw, position)
        elif after_archive and position % 4:
            _refuse(position, "something begins at no multiple of 4, where the kernel does not look for it")
        elif kind == "gzip":
            unpacked, position = unpack_gzip(raw, position, allowed)
            _read_member(unpacked, found, allowed)
            after_archive = False
        elif kind is not None:
            raise EifError(PART, f"at byte {position} compressed with {kind}, which is not read here; unpack it first")
        else:
            position = _read_archive(raw, position, found, allowed)
            after_archive = True
    return tuple(found)


def _append(archive: bytearray, inode: int, entry: CpioEntry) -> None:
    name = _path_bytes(entry.path) + b"\0"
    links = 2 if S_ISDIR(entry.mode) else 1
    numbers = (inode, entry.mode, entry.uid, entry.gid, links, entry.mtime_s, len(entry.data))
    archive += _MAGIC
    for number in (*numbers, 0, 0, *entry.rdev, len(name), 0):
        archive += b"%08X" % number
    archive += name
    _pad(archive, 4)
    archive += entry.data
    _pad(archive, 4)


def _pad(archive: bytearray, multiple: int) -> None:
    archive += bytes(-len(archive) % multiple)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _path_bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _require_writable(entry: CpioEntry, directories: set[str]) -> None:
    path = entry.path
    if not set(path.split("/")).isdisjoint({"", ".", ".."}) or "\0" in path or path == _TRAILER:
        raise CallerError(f"ramdisk: {path!r} is not a plain relative path")
    if len(_path_bytes(path)) >= MAX_PATH_BYTES:
        raise CallerError(f"ramdisk: {path[:60]!r}… is longer than Linux takes")
    if path.rpartition("/")[0] not in directories:
        raise CallerError(f"ramdisk: the directory of {path!r} is missing")
    if S_IFMT(entry.mode) not in _FILE_TYPES or entry.mode > 0xFFFF:
        raise CallerError(f"ramdisk: {path!r} has mode {entry.mode:o}, which is no kind of file")
    if S_ISLNK(entry.mode) and (not entry.data or b"\0" in entry.data):
        raise CallerError(f"ramdisk: the link {path!r} has no target that Linux takes")
    if entry.data and not (S_ISREG(entry.mode) or S_ISLNK(entry.mode)):
        raise CallerError(f"ramdisk: {path!r} has content, but is neither file nor link")
    if S_ISLNK(entry.mode) and len(entry.data) >= MAX_PATH_BYTES:
        raise CallerError(f"ramdisk: the target of {path!r} is longer than Linux takes")
    if max(entry.mtime_s, len(entry.data)) > MAX_NUMBER:
        raise CallerError(f"ramdisk: the size or time of {path!r} does not fit into 32 bits")
    if not _has_numbers_that_linux_keeps(entry):
        raise CallerError(f"ramdisk: owner or device of {path!r} is a number that Linux does not keep")


def _has_numbers_that_linux_keeps(entry: CpioEntry) -> bool:
    major, minor = entry.rdev
    return max(entry.uid, entry.gid) <= MAX_OWNER and major <= MAX_DEVICE[0] and minor <= MAX_DEVICE[1]


def _skip_zeros(raw: bytes, position: int) -> int:
    while position < len(raw) and raw[position] == 0:
        block = raw[position : position + 4096]
        position += len(block) - len(block.lstrip(b"\0"))
    return position


def _read_member(raw: bytes, found: list[CpioEntry], budget: Budget) -> None:
    """What one gzip member unpacked to: whole archives and zeros after them, nothing compressed again.

    Linux gives up on a member that begins with zeros or ends within padding, depending on what came before it.
    """
    if not raw or raw[0] == 0:
        _refuse(0, "a gzip member that does not begin with an archive")
    position = 0
    while position < len(raw):
        position = _read_archive(raw, position, found, budget)
        if position % 4:
            _refuse(position, "a gzip member ends inside the padding of its trailer")
        position = _skip_zeros(raw, position)


def _read_archive(raw: bytes, position: int, found: list[CpioEntry], budget: Budget) -> int:
    """Append one archive's entries to `found`; returns where its trailer ends."""
    if position % 4:
        _refuse(position, "an archive begins at no multiple of 4, where the kernel does not look for one")
    linked: dict[tuple[int, ...], list[int]] = {}
    while True:
        header, entry, position = _read_entry(raw, position)
        if entry.path == _TRAILER:
            for places in linked.values():
                _join_links(found, places, budget)
            return position
        budget.take_entry()
        if header.links > 1 and not (S_ISDIR(entry.mode) or S_ISLNK(entry.mode)):
            linked.setdefault((S_IFMT(entry.mode), *header.inode), []).append(len(found))
        found.append(entry)


def _join_links(found: list[CpioEntry], places: list[int], budget: Budget) -> None:
    """All links of a file have the content that was written last; empty ones write none (maybe_link in initramfs.c).

    So it is with mode, owner and time; other writers of archives state the same for all links.
    """
    if len(places) == 1:
        return
    content = next((found[place].data for place in reversed(places) if found[place].data), b"")
    properties = replace(found[places[0]], path="", data=content, linked=True)
    for place in places:
        if found[place].data is not content:
            budget.take_bytes(len(content))
        joined = replace(found[place], data=content, linked=True)
        if replace(joined, path="") != properties:
            raise EifError(
                PART, f"{joined.path!r} states another mode, owner, time or device than a link of the same file"
            )
        found[place] = joined


@dataclass(frozen=True, slots=True)
class _Header:
    inode: tuple[int, int, int]  # with the device's major and minor
    links: int


def _read_entry(raw: bytes, start: int) -> tuple[_Header, CpioEntry, int]:
    numbers = _read_numbers(raw, start)
    inode, mode, uid, gid, links, mtime_s, size, major, minor, *rdev, name_bytes, total = numbers
    name_at = start + _HEADER_BYTES
    if not 1 < name_bytes <= MAX_PATH_BYTES:
        _refuse(start, f"a path of {name_bytes} bytes")
    name = _take(raw, name_at, name_bytes)
    if name.find(b"\0") != name_bytes - 1:
        _refuse(start, "a path that does not end at its only NUL")
    path = name[:-1].decode("utf-8", "surrogateescape")
    data_at = _aligned(name_at + name_bytes)
    data = _take(raw, data_at, size)
    if path != _TRAILER and (S_IFMT(mode) not in _FILE_TYPES or mode > 0xFFFF):
        _refuse(start, f"{path!r} has mode {mode:o}, which is no kind of file")
    if data and not (S_ISREG(mode) or (S_ISLNK(mode) and path != _TRAILER)):
        _refuse(start, f"{path!r} has content, but is neither file nor link")
    if S_ISLNK(mode) and (b"\0" in data or not 0 < size < MAX_PATH_BYTES):
        _refuse(start, f"the link {path!r} has no target that Linux takes")
    if raw[start : start + 6] == _MAGIC_WITH_SUM and S_ISREG(mode) and sum(data) & 0xFFFFFFFF != total:
        _refuse(start, f"the checksum of {path!r} is wrong")
    device = (rdev[0], rdev[1]) if S_ISCHR(mode) or S_ISBLK(mode) else (0, 0)
    entry = CpioEntry(path=path, mode=mode, data=data, rdev=device, uid=uid, gid=gid, mtime_s=mtime_s)
    if not _has_numbers_that_linux_keeps(entry):
        _refuse(start, f"owner or device of {path!r} is a number that Linux does not keep")
    return _Header((inode, major, minor), links), entry, _end(raw, data_at + size)


def _read_numbers(raw: bytes, start: int) -> list[int]:
    """The 13 numbers of a header."""
    magic = raw[start : start + 6]
    if magic.startswith(_OLD_MAGICS):
        _refuse(start, "an archive in an old format; Linux takes newc only (cpio -H newc)")
    if not magic:
        _refuse(start, "the archive lacks its trailer")
    if magic not in (_MAGIC, _MAGIC_WITH_SUM):
        _refuse(start, f"{magic.hex()} where a cpio header, zeros or compressed data should be")
    digits = _take(raw, start + 6, _HEADER_BYTES - 6)
    if not _HEX_DIGITS.issuperset(digits):
        _refuse(start, "a header that is not made of hex digits")
    return [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]


def _take(raw: bytes, start: int, size: int) -> bytes:
    if size > len(raw) - start:
        _refuse(len(raw), "ends inside an archive: it is truncated")
    return raw[start : start + size]


def _end(raw: bytes, end: int) -> int:
    """Where the next header is; the last entry of a file may lack its padding, as the kernel allows."""
    return min(_aligned(end), len(raw))


def _aligned(position: int) -> int:
    return (position + 3) & ~3


def _refuse(position: int, reason: str) -> NoReturn:
    raise EifError(PART, f"at byte {position}: {reason}")
