"""A ramdisk as people look at it: its files by path, and the inputs they came from."""

from collections.abc import Mapping
from dataclasses import dataclass
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, S_IMODE
from typing import Any, Final

from pinaivu_image.inputs import BuildInputs, find_inputs
from pinaivu_shared.eif.cpio import CpioEntry, read_cpio
from pinaivu_shared.eif.errors import EifError

KINDS: Final = {
    S_IFREG: "file",
    S_IFDIR: "directory",
    S_IFLNK: "link",
    S_IFCHR: "character device",
    S_IFBLK: "block device",
    S_IFIFO: "pipe",
    S_IFSOCK: "socket",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ramdisk:
    """What could be read of one ramdisk section; `notes` say what could not."""

    entries: tuple[CpioEntry, ...]
    inputs: BuildInputs | None
    notes: tuple[str, ...]

    @property
    def files(self) -> Mapping[str, CpioEntry]:
        """The last entry of each path, as the kernel leaves it; `./a` and `/a` are the same as `a`."""
        return {plain_path(entry.path): entry for entry in self.entries}

    def input_of(self, path: str) -> str | None:
        """The name of the input that this file came from, where the image says so."""
        return None if self.inputs is None else self.inputs.files.get(path)


def open_ramdisk(section: bytes) -> Ramdisk:
    """List a ramdisk. One that cannot be read (another compression, junk) is empty and has a note."""
    try:
        entries = read_cpio(section)
    except EifError as error:
        return Ramdisk(entries=(), inputs=None, notes=(f"its files cannot be listed: {error.detail}",))
    inputs, note = find_inputs(entries)
    notes = [] if note is None else [note]
    doubled = len(entries) - len({plain_path(entry.path) for entry in entries})
    if doubled:
        notes.append(f"{doubled} paths are written twice; the later entry counts")
    return Ramdisk(entries=entries, inputs=inputs, notes=tuple(notes))


def plain_path(path: str) -> str:
    """The path below the root, without the `./` or `/` that other tools put in front."""
    while path.startswith(("./", "/")):
        path = path.removeprefix(".").removeprefix("/")
    return path


def describe_entry(entry: CpioEntry) -> dict[str, Any]:
    """What distinguishes an entry from another, JSON values only; owner and time where they are not 0."""
    described: dict[str, Any] = {"kind": KINDS[S_IFMT(entry.mode)], "mode": f"{S_IMODE(entry.mode):04o}"}
    match S_IFMT(entry.mode):
        case kind if kind == S_IFREG:
            described |= {"size": len(entry.data), "sha256": entry.sha256.hex()}
        case kind if kind == S_IFLNK:
            described["target"] = entry.data.decode("utf-8", "surrogateescape")
        case kind if kind in (S_IFCHR, S_IFBLK):
            described["device"] = list(entry.rdev)
        case _:
            pass
    rest = {"uid": entry.uid, "gid": entry.gid, "mtime_s": entry.mtime_s}
    return described | {name: value for name, value in rest.items() if value}
