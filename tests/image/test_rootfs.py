"""The tree of an image: what is listed is what Linux makes of the ramdisks, one unpacked over the other."""

import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.image.images import APPLICATION, BOOT, TRAILER, directory, file, image, link, raw_entry

from pinaivu_image.difference import compare_images
from pinaivu_image.inspection import inspect_image
from pinaivu_image.ramdisk import MAX_NAMED, open_ramdisks
from pinaivu_image.rootfs import EMPTY, Tree, plain_path, replaced_files, unpack_over
from pinaivu_shared.eif.cpio import CpioEntry, read_cpio, write_cpio
from pinaivu_shared.eif.errors import EifError

LINK, FOLDER, PIPE = stat.S_IFLNK | 0o777, stat.S_IFDIR | 0o755, stat.S_IFIFO | 0o600


def archive(*entries: bytes) -> bytes:
    return b"".join(entries) + TRAILER


def linked(*names: bytes, data: bytes = b"") -> bytes:
    """Hard links of one file; the last carries its content."""
    contents = [*(b"" for _ in names[1:]), data]
    return b"".join(raw_entry(name, one, ino=7, nlink=2) for name, one in zip(names, contents, strict=True))


UNLISTABLE: list[tuple[str, list[bytes], str]] = [
    ("a file written twice", [raw_entry(b"a\0", b"1"), raw_entry(b"a\0", b"2")], "written twice"),
    ("spelt otherwise", [raw_entry(b"a\0", b"1"), raw_entry(b"./a\0", b"2")], "written twice"),
    ("in two archives", [raw_entry(b"a\0"), TRAILER, raw_entry(b"a\0")], "written twice"),
    ("a link that is overwritten", [linked(b"a\0", b"b\0", data=b"1"), raw_entry(b"b\0", b"2")], "written twice"),
    ("a symbolic link written twice", [raw_entry(b"a\0", b"x", mode=LINK)] * 2, "written twice"),
    ("a device written twice", [raw_entry(b"a\0", mode=0o20600)] * 2, "written twice"),
    ("a folder over a file", [raw_entry(b"a\0"), raw_entry(b"a\0", mode=FOLDER)], "another kind"),
    ("a file over a folder", [raw_entry(b"a\0", mode=FOLDER), raw_entry(b"a\0")], "another kind"),
    ("a file as root", [raw_entry(b".\0")], "another kind"),
    ("through a link", [raw_entry(b"z\0", mode=FOLDER), raw_entry(b"y\0", b"z", mode=LINK), raw_entry(b"y/f\0")],
     "in no directory"),
    ("a folder through a link", [raw_entry(b"y\0", b".", mode=LINK), raw_entry(b"y/\0", mode=FOLDER)], "another kind"),
    ("no folder", [raw_entry(b"z/f\0")], "in no directory"),
    ("a folder that comes later", [raw_entry(b"z/f\0"), raw_entry(b"z\0", mode=FOLDER)], "in no directory"),
    ("below a file", [raw_entry(b"z\0"), raw_entry(b"z/f\0")], "in no directory"),
    ("up", [raw_entry(b"a\0", mode=FOLDER), raw_entry(b"a/../b\0")], "leads out"),
    ("up and down", [raw_entry(b"a\0", mode=FOLDER), raw_entry(b"a/../b/c\0")], "leads out"),
    ("up at the end", [raw_entry(b"..\0", mode=FOLDER)], "leads out"),
    ("up with a slash", [raw_entry(b"../\0", mode=FOLDER)], "leads out"),
    ("a long name", [raw_entry(b"a" * 256 + b"\0")], "longer than Linux takes"),
    ("a file with a slash", [raw_entry(b"a/\0")], "lets no new path end"),
    ("a file with a dot", [raw_entry(b"a/.\0")], "lets no new path end"),
    ("a folder with a dot", [raw_entry(b"a/.\0", mode=FOLDER)], "lets no new path end"),
]  # fmt: skip


@pytest.mark.parametrize(("entries", "detail"), [case[1:] for case in UNLISTABLE], ids=[case[0] for case in UNLISTABLE])
def test_a_ramdisk_that_becomes_another_tree_is_not_listed(entries: list[bytes], detail: str) -> None:
    (ramdisk,) = open_ramdisks([archive(*entries)])
    assert ramdisk.entries == ()
    (note,) = ramdisk.notes
    assert note.startswith("its files cannot be listed: ")
    assert detail in note


def test_what_other_tools_write_is_listed() -> None:
    names = [b".\0", b"/\0", b"a/\0", b"a\0", b"./a/b\0", b"a//c\0", b"a/./d\0", b"x" * 255 + b"\0"]
    modes = [FOLDER] * 5 + [0o100644] * 3
    (ramdisk,) = open_ramdisks(
        [archive(*(raw_entry(name, mode=mode) for name, mode in zip(names, modes, strict=True)))]
    )
    assert list(ramdisk.files) == [".", "a", "a/b", "a/c", "a/d", "x" * 255]
    assert ramdisk.notes == ()


ACROSS: list[tuple[str, bytes, bytes, str]] = [
    ("through a link of an earlier one",
     archive(raw_entry(b"z\0", mode=FOLDER), raw_entry(b"y\0", b"z", mode=LINK)), archive(raw_entry(b"y/f\0")),
     "in no directory"),
    ("one of several links", archive(linked(b"a\0", b"b\0", data=b"1")), archive(raw_entry(b"a\0", b"2")),
     "has other links there"),
    ("a symbolic link", archive(raw_entry(b"a\0", b"x", mode=LINK)), archive(raw_entry(b"a\0", b"y", mode=LINK)),
     "is in ramdisk 1 already"),
    ("a device", archive(raw_entry(b"a\0", mode=0o20600)), archive(raw_entry(b"a\0", mode=0o20600, rdevminor=1)),
     "is in ramdisk 1 already"),
    ("another kind", archive(raw_entry(b"a\0", mode=FOLDER)), archive(raw_entry(b"a\0")), "another kind"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "detail"), [case[1:] for case in ACROSS], ids=[case[0] for case in ACROSS])
def test_what_a_later_ramdisk_would_change_in_an_earlier_one_is_not_listed(
    first: bytes, second: bytes, detail: str
) -> None:
    earlier, later = open_ramdisks([first, second])
    assert (earlier.notes, later.entries) == ((), ())
    assert detail in later.notes[0]


def test_a_later_ramdisk_may_use_folders_of_an_earlier_one() -> None:
    _, later = open_ramdisks([archive(raw_entry(b"a\0", mode=FOLDER)), archive(raw_entry(b"a/b\0"))])
    assert (list(later.files), later.notes) == (["a/b"], ())


def test_files_that_replace_those_of_an_earlier_ramdisk_are_noted() -> None:
    replacing = write_cpio([file("init", b"another"), file("new")])
    note = "ramdisk 2: replaces 1 files of ramdisks before it: 'init'"
    found = inspect_image(image(ramdisks=(BOOT, replacing)))
    assert note in found.notes
    assert list(found.ramdisks[1].files) == ["init", "new"]
    assert f"new {note}" in compare_images(inspect_image(image()), found).notes


def test_many_replaced_files_are_counted_and_some_named() -> None:
    full = write_cpio([file(f"{number:04}") for number in range(500)])
    _, later = open_ramdisks([full, full])
    assert later.notes[0].startswith("replaces 500 files")
    assert later.notes[0].count("'0") == 2 * MAX_NAMED / 2
    assert later.notes[0].endswith(", …")


def test_what_follows_an_unlistable_ramdisk_is_listed_with_a_doubt() -> None:
    for bad in (b"junk", archive(raw_entry(b"x\0"), raw_entry(b"x\0"))):
        first, second, third = open_ramdisks([bad, APPLICATION, write_cpio([file("x")])])
        assert first.entries == ()
        assert second.entries == read_cpio(APPLICATION)
        assert third.notes == second.notes
        assert third.notes == ("listed as if it were alone, but ramdisk 1, which is unpacked before it, is not listed",)


def kernel_unpacks(root: Path, entries: Iterable[tuple[CpioEntry, int]]) -> None:
    """init/initramfs.c, do_name and do_symlink, by their system calls; errors are dropped as they are there."""
    first: dict[tuple[int, int], Path] = {}
    for entry, inode in entries:
        path, kind = root / entry.path, stat.S_IFMT(entry.mode)
        try:
            unpack_one(path, kind, entry, first, inode)
        except OSError:
            continue


def unpack_one(path: Path, kind: int, entry: CpioEntry, first: dict[tuple[int, int], Path], inode: int) -> None:
    clean_path(path, 0 if kind == stat.S_IFLNK else kind)
    if kind == stat.S_IFLNK:
        path.symlink_to(os.fsdecode(entry.data))
    elif kind == stat.S_IFDIR:
        path.mkdir()
    else:
        known = first.setdefault((inode, kind), path) if inode else path
        if known is not path:
            clean_path(path, 0)
            os.link(known, path, follow_symlinks=False)
        if kind == stat.S_IFIFO and known is path:
            os.mkfifo(path)
        if kind == stat.S_IFREG:
            write(path, entry.data, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if known is path else 0))


def clean_path(path: Path, kind: int) -> None:
    try:
        there = stat.S_IFMT(path.lstat().st_mode)
        if there != kind:
            (path.rmdir if there == stat.S_IFDIR else path.unlink)()
    except OSError:
        pass


def write(path: Path, data: bytes, flags: int) -> None:
    opened = os.open(path, flags)
    try:
        if data:
            os.ftruncate(opened, len(data))
            os.write(opened, data)
    finally:
        os.close(opened)


def tree_below(root: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path.relative_to(root)): content_of(path) for path in root.rglob("*")}


def content_of(path: Path) -> tuple[int, bytes]:
    kind = stat.S_IFMT(path.lstat().st_mode)
    if kind == stat.S_IFLNK:
        return kind, os.fsencode(path.readlink())
    return kind, path.read_bytes() if kind == stat.S_IFREG else b""


PATHS = st.sampled_from(["a", "b", "c", "a/a", "a/b", "./b", "a/../b"])
KINDS = st.sampled_from([stat.S_IFREG, stat.S_IFREG, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO])
Step = tuple[str, int, bytes, int]
STEP = st.tuples(PATHS, KINDS, st.sampled_from([b"a", b"b", b"", b"bb"]), st.sampled_from([0, 1]))


def made(path: str, kind: int, data: bytes, inode: int) -> tuple[CpioEntry, int]:
    if kind == stat.S_IFLNK:
        data = data or b"b"
    elif kind != stat.S_IFREG:
        data = b""
    return CpioEntry(path=path, mode=kind | 0o755, data=data), 0 if kind in {stat.S_IFDIR, stat.S_IFLNK} else inode


def listed_of(tree: Tree, steps: list[tuple[CpioEntry, int]], number: int) -> tuple[tuple[CpioEntry, ...], Tree] | None:
    """What is listed of a ramdisk with these entries, None where nothing is."""
    raw = (
        raw_entry(entry.path.encode() + b"\0", entry.data, mode=entry.mode, ino=inode, nlink=2 if inode else 1)
        for entry, inode in steps
    )
    try:
        entries = read_cpio(archive(*raw))
        return entries, unpack_over(tree, entries, number)
    except EifError:
        return None


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(STEP, max_size=8), min_size=1, max_size=3))
def test_a_listed_tree_is_the_one_that_the_kernels_system_calls_make(ramdisks: list[list[Step]]) -> None:
    """Of each drawn ramdisk those entries are kept with which it is still listed."""
    tree, listed = EMPTY, dict[str, tuple[int, bytes]]()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "in", "there")
        root.mkdir(parents=True)
        for number, steps in enumerate(ramdisks, start=1):
            kept: list[tuple[CpioEntry, int]] = []
            for step in steps:
                if listed_of(tree, [*kept, made(*step)], number) is not None:
                    kept.append(made(*step))
            found = listed_of(tree, kept, number)
            assert found is not None
            entries, tree = found
            listed |= {plain_path(entry.path): (stat.S_IFMT(entry.mode), entry.data) for entry in entries}
            kernel_unpacks(root, kept)
        assert tree_below(root) == listed
    assert {path: node.kind for path, node in tree.items() if path != "."} == {
        path: kind for path, (kind, _) in listed.items()
    }


def test_replaced_are_only_files_that_were_there() -> None:
    before = unpack_over(EMPTY, [directory("a"), file("a/b"), file("a/c"), link("d", "a")], 1)
    after = unpack_over(before, [directory("a"), file("a/c"), file("a/e")], 2)
    assert replaced_files(before, after) == ["a/c"]
