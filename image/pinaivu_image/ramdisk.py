"""A ramdisk as people look at it: its files by path, and the inputs they came from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, S_IMODE
from typing import Any, Final

from pinaivu_image.inputs import BuildInputs, find_inputs
from pinaivu_image.rootfs import EMPTY, Tree, plain_path, replaced_files, unpack_over
from pinaivu_shared.eif.budget import Budget
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
MAX_NAMED: Final = 20
"""So many replaced files are named in a note."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ramdisk:
    """What could be read of one ramdisk section; `notes` say what could not, `unlisted` why nothing could."""

    entries: tuple[CpioEntry, ...]
    inputs: BuildInputs | None
    notes: tuple[str, ...]
    unlisted: str | None = None

    @property
    def files(self) -> Mapping[str, CpioEntry]:
        """By plain path; the last entry of a directory that is there twice, as the kernel leaves it."""
        return {plain_path(entry.path): entry for entry in self.entries}

    def input_of(self, path: str) -> str | None:
        """The name of the input that this file came from, where the image says so."""
        return None if self.inputs is None else self.inputs.files.get(path)


def open_ramdisks(sections: Iterable[bytes], budget: Budget | None = None) -> tuple[Ramdisk, ...]:
    """List the ramdisks of an image, each unpacked over those before it.

    One that cannot be read (another compression, junk), or whose entries are not what the kernel would make of them, is
    empty and has a note. All of them share one budget.
    """
    allowed = Budget() if budget is None else budget
    tree, unlisted, opened = EMPTY, list[str](), list[Ramdisk]()
    for number, section in enumerate(sections, start=1):
        try:
            entries = read_cpio(section, allowed)
            after = unpack_over(tree, entries, number)
        except EifError as error:
            note = f"its files cannot be listed: {error.detail}"
            opened.append(Ramdisk(entries=(), inputs=None, notes=(note,), unlisted=error.detail))
            unlisted.append(str(number))
            continue
        inputs, note_on_inputs = find_inputs(entries)
        notes = [*_replacements(tree, after), *_doubts(unlisted), *filter(None, [note_on_inputs])]
        opened.append(Ramdisk(entries=entries, inputs=inputs, notes=tuple(notes)))
        tree = after
    return tuple(opened)


def _replacements(before: Tree, after: Tree) -> Iterator[str]:
    replaced = replaced_files(before, after)
    if replaced:
        named = ", ".join(repr(path) for path in replaced[:MAX_NAMED]) + (", …" if replaced[MAX_NAMED:] else "")
        yield f"replaces {len(replaced)} files of ramdisks before it: {named}"


def _doubts(unlisted: list[str]) -> Iterator[str]:
    if unlisted:
        named = ", ".join(unlisted)
        yield f"listed as if it were alone, but ramdisk {named}, which is unpacked before it, is not listed"


def describe_entries(entries: Iterable[CpioEntry]) -> Iterator[tuple[CpioEntry, dict[str, Any]]]:
    """Each entry and what distinguishes it from another: JSON values only, owner and time where they are not 0."""
    hashes: dict[bytes, str] = {}
    for entry in entries:
        described: dict[str, Any] = {"kind": KINDS[S_IFMT(entry.mode)], "mode": f"{S_IMODE(entry.mode):04o}"}
        match S_IFMT(entry.mode):
            case kind if kind == S_IFREG:
                if entry.data not in hashes:  # links share their content
                    hashes[entry.data] = entry.sha256.hex()
                described |= {"size": len(entry.data), "sha256": hashes[entry.data]}
            case kind if kind == S_IFLNK:
                described["target"] = entry.data.decode("utf-8", "surrogateescape")
            case kind if kind in (S_IFCHR, S_IFBLK):
                described["device"] = list(entry.rdev)
            case _:
                pass
        rest = {"uid": entry.uid, "gid": entry.gid, "mtime_s": entry.mtime_s}
        yield entry, described | {name: value for name, value in rest.items() if value}
