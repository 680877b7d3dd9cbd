"""Ramdisks: the same files give the same bytes, GNU cpio reads what we write, and we read what it and Linux take."""

import gzip
import random
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from stat import S_IFREG

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.image.images import APPLICATION, BOOT, TRAILER, device, directory, file, link, padded, raw_entry, zipped

from pinaivu_shared.eif.budget import MAX_ENTRIES, Budget
from pinaivu_shared.eif.cpio import CpioEntry, read_cpio, with_parents, write_cpio
from pinaivu_shared.eif.errors import EifError
from pinaivu_shared.errors import CallerError

TREE = (
    directory("dev"),
    device("dev/console", 5, 1),
    directory("etc"),
    file("etc/empty"),
    link("etc/link", "empty"),
    file("init", b"#!/bin/sh\n", 0o755),
)
needs_cpio = pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio program here to compare with")


def cpio(folder: Path, *arguments: str, content: bytes) -> bytes:
    return subprocess.run(["cpio", *arguments], check=True, input=content, capture_output=True, cwd=folder).stdout


def test_what_is_written_is_read_in_order_of_paths() -> None:
    assert read_cpio(write_cpio(TREE)) == TREE


def test_the_same_entries_in_any_order_give_the_same_bytes() -> None:
    shuffled = list(TREE)
    for seed in range(10):
        random.Random(seed).shuffle(shuffled)
        assert write_cpio(shuffled) == write_cpio(TREE)


def test_an_archive_is_padded_to_512_bytes_and_numbers_its_entries() -> None:
    raw = write_cpio(TREE)
    assert len(raw) % 512 == 0
    inodes = [int(raw[place + 6 : place + 14], 16) for place in range(len(raw)) if raw[place : place + 6] == b"070701"]
    assert inodes == [1, 2, 3, 4, 5, 6, 0]


def test_the_archive_of_one_file_is_these_bytes() -> None:
    numbers = (
        "00000001 000081A4 00000000 00000000 00000001 00000000 00000003 00000000 00000000 00000000 00000000 00000002"
    )
    end = "00000000 00000000 00000000 00000000 00000001 00000000 00000000 00000000 00000000 00000000 00000000 0000000B"
    expected = f"070701{numbers}00000000f\0hi\n\0".replace(" ", "") + f"070701{end}00000000TRAILER!!!\0".replace(
        " ", ""
    )
    assert write_cpio([file("f", b"hi\n")]) == expected.encode().ljust(512, b"\0")


def test_parents_come_before_their_children_even_where_bytes_sort_otherwise() -> None:
    entries = [directory("a"), file("a/b"), file("a-b"), file("a.b")]
    assert [entry.path for entry in read_cpio(write_cpio(entries))] == ["a", "a/b", "a-b", "a.b"]


def test_missing_parents_can_be_added() -> None:
    completed = with_parents([file("usr/lib/x/y"), directory("usr")])
    assert sorted(entry.path for entry in completed) == ["usr", "usr/lib", "usr/lib/x", "usr/lib/x/y"]
    assert len(read_cpio(write_cpio(completed))) == 4


UNWRITABLE: list[tuple[str, list[CpioEntry], str]] = [
    ("absolute", [file("/init")], "plain relative path"),
    ("parent", [file("../init")], "plain relative path"),
    ("dot", [file("./init")], "plain relative path"),
    ("empty", [file("")], "plain relative path"),
    ("slash at the end", [directory("a/")], "plain relative path"),
    ("NUL", [file("a\0b")], "plain relative path"),
    ("trailer", [file("TRAILER!!!")], "plain relative path"),
    ("4096 bytes", [file("a" * 4096)], "longer than Linux takes"),
    ("twice", [file("a"), file("a", b"x")], "there twice"),
    ("no directory", [file("a/b")], "the directory of 'a/b' is missing"),
    ("a file as directory", [file("a"), file("a/b")], "the directory of 'a/b' is missing"),
    ("no kind", [CpioEntry(path="a", mode=0o644)], "no kind of file"),
    ("content of a device", [CpioEntry(path="a", mode=0o20600, data=b"x")], "neither file nor link"),
    ("no target", [link("a", "")], "no target"),
    ("long target", [link("a", "b" * 4096)], "longer than Linux takes"),
    ("an owner that chown leaves", [CpioEntry(path="a", mode=S_IFREG, uid=(1 << 32) - 1)], "does not keep"),
    ("a large major", [device("a", 1 << 12, 0)], "does not keep"),
    ("a large minor", [device("a", 0, 1 << 20)], "does not keep"),
    ("late time", [CpioEntry(path="a", mode=S_IFREG, mtime_s=1 << 32)], "32 bits"),
]


@pytest.mark.parametrize(("entries", "detail"), [case[1:] for case in UNWRITABLE], ids=[case[0] for case in UNWRITABLE])
def test_what_linux_would_drop_is_not_written(entries: list[CpioEntry], detail: str) -> None:
    with pytest.raises(CallerError, match=detail):
        write_cpio(entries)


@needs_cpio
def test_gnu_cpio_lists_and_unpacks_what_we_write(tmp_path: Path) -> None:
    listed = cpio(tmp_path, "-itv", "--numeric-uid-gid", content=write_cpio(TREE)).decode().splitlines()
    assert [line.split()[0] for line in listed] == [
        "drwxr-xr-x", "crw-------", "drwxr-xr-x", "-rw-r--r--", "lrwxrwxrwx", "-rwxr-xr-x",
    ]  # fmt: skip
    assert "5,   1" in listed[1]
    assert listed[4].endswith("etc/link -> empty")
    cpio(tmp_path, "-i", "etc*", "init", content=write_cpio(TREE))
    assert (tmp_path / "init").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "etc" / "link").readlink() == Path("empty")


@needs_cpio
def test_what_gnu_cpio_writes_is_read_hard_links_included(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir(mode=0o750)
    (tmp_path / "sub" / "a").write_bytes(b"content" * 99)
    (tmp_path / "sub" / "b").hardlink_to(tmp_path / "sub" / "a")
    (tmp_path / "link").symlink_to("sub/a")
    names = b"sub\nsub/a\nsub/b\nlink\n"
    for form in ("newc", "crc"):
        found = {entry.path: entry for entry in read_cpio(cpio(tmp_path, "-o", "-H", form, content=names))}
        assert set(found) == {"sub", "sub/a", "sub/b", "link"}
        assert found["sub/a"].data == found["sub/b"].data == b"content" * 99
        assert found["link"].data == b"sub/a"
        assert oct(found["sub"].mode) == "0o40750"
    with pytest.raises(EifError, match="old format"):
        read_cpio(cpio(tmp_path, "-o", "-H", "odc", content=names))


def test_archives_zeros_and_gzip_may_follow_each_other_as_linux_unpacks_them() -> None:
    both = read_cpio(BOOT) + read_cpio(APPLICATION)
    for raw in (
        BOOT + APPLICATION,
        BOOT + bytes(4000) + APPLICATION + bytes(3),
        zipped(BOOT) + zipped(APPLICATION),
        zipped(BOOT) + bytes(7) + zipped(APPLICATION),
        BOOT + zipped(APPLICATION),
        padded(zipped(BOOT)) + APPLICATION,
        TRAILER + padded(zipped(BOOT)) + bytes(1) + zipped(APPLICATION),
        zipped(BOOT + bytes(512) + APPLICATION),
    ):
        assert read_cpio(raw) == both
    assert read_cpio(b"") == read_cpio(bytes(100)) == ()


def test_all_links_of_a_file_have_the_content_that_was_written_last() -> None:
    links = b"".join(
        raw_entry(name, data, ino=7, nlink=3) for name, data in ((b"a\0", b"old"), (b"b\0", b"new"), (b"c\0", b""))
    )
    entries = read_cpio(links + TRAILER)
    assert {entry.path: (entry.data, entry.linked) for entry in entries} == dict.fromkeys("abc", (b"new", True))
    apart = raw_entry(b"a\0", b"one", ino=7, nlink=2) + TRAILER + raw_entry(b"b\0", b"two", ino=7, nlink=2) + TRAILER
    assert [(entry.data, entry.linked) for entry in read_cpio(apart)] == [(b"one", False), (b"two", False)]
    alone = raw_entry(b"a\0", ino=7, nlink=2) + raw_entry(b"b\0", ino=7, nlink=2, mode=0o10644) + TRAILER
    assert [entry.linked for entry in read_cpio(alone)] == [False, False], "a file and a pipe are two"


def test_owner_time_device_and_odd_names_are_kept() -> None:
    raw = raw_entry(b"\xff\0", b"", mode=0o60600, uid=1, gid=2, mtime=3, rdevmajor=8, rdevminor=1) + TRAILER
    (entry,) = read_cpio(raw)
    assert (entry.path, entry.uid, entry.gid, entry.mtime_s, entry.rdev) == ("\udcff", 1, 2, 3, (8, 1))
    assert read_cpio(write_cpio([entry])) == (entry,)


UNREADABLE: list[tuple[str, bytes, str]] = [
    ("junk", b"hello", "68656c6c6f where a cpio header"),
    ("junk after an archive", BOOT + b"\1", "01 where a cpio header"),
    ("an archive at no multiple of 4", BOOT + bytes(2) + APPLICATION, "no multiple of 4"),
    ("no trailer", raw_entry(), "lacks its trailer"),
    ("a cut header", raw_entry()[:50], "truncated"),
    ("a cut content", raw_entry(data=b"12345678")[:-4], "truncated"),
    ("a size of 4 GiB", raw_entry(filesize=0xFFFFFFFF) + TRAILER, "truncated"),
    ("no hex digits", raw_entry().replace(b"00000000", b"0x000000", 1) + TRAILER, "hex digits"),
    ("a sign in a number", raw_entry().replace(b"00000000", b"+0000000", 1) + TRAILER, "hex digits"),
    ("no path", raw_entry(b"\0") + TRAILER, "a path of 1 bytes"),
    ("a path of 4097 bytes", raw_entry(b"a" * 4096 + b"\0") + TRAILER, "a path of 4097"),
    ("a path without NUL", raw_entry(b"ab") + TRAILER, "only NUL"),
    ("a path with two", raw_entry(b"a\0b\0") + TRAILER, "only NUL"),
    ("a directory with content", raw_entry(data=b"x", mode=0o40755) + TRAILER, "neither file nor link"),
    ("a link without target", raw_entry(mode=0o120777) + TRAILER, "no target"),
    ("a link with NUL", raw_entry(data=b"a\0", mode=0o120777) + TRAILER, "no target"),
    ("a link that is called like a trailer", raw_entry(b"TRAILER!!!\0", b"x", mode=0o120777), "neither file nor link"),
    ("no kind of file", raw_entry(mode=0o644) + TRAILER, "no kind of file"),
    ("a mode of 17 bits", raw_entry(mode=0o300644) + TRAILER, "no kind of file"),
    ("a wrong checksum", raw_entry(data=b"x", magic=b"070702", check=1) + TRAILER, "checksum of 'a'"),
    ("odc", b"070707" + bytes(100), "old format"),
    ("binary", b"\xc7\x71" + bytes(100), "old format"),
    ("cut gzip", zipped(BOOT)[:-1], "inside the gzip data"),
    ("an unknown method", b"\x1f\x8b\x07" + zipped(BOOT)[3:], "reads in another way"),
    ("a cut gzip header", zipped(BOOT)[:3], "reads in another way"),
    ("the other magic of gzip", b"\x1f\x9e" + zipped(BOOT)[2:], "cannot be unpacked"),
    ("a wrong length in gzip", zipped(BOOT)[:-1] + b"\1", "cannot be unpacked"),
    ("junk after gzip", padded(zipped(BOOT)) + b"\1", "01 where a cpio header"),
    ("gzip of nothing", zipped(b""), "does not begin with an archive"),
    ("gzip of zeros first", zipped(bytes(4) + BOOT), "does not begin with an archive"),
    ("gzip that ends inside padding", zipped(raw_entry(b"TRAILER!!!\0", b"x")[:-3]), "inside the padding"),
    ("gzip at no multiple of 4 after an archive", BOOT + bytes(2) + zipped(APPLICATION), "no multiple of 4"),
    ("links of two modes", raw_entry(ino=7, nlink=2) + raw_entry(b"b\0", ino=7, nlink=2, mode=0o104755) + TRAILER,
     "'b' states another mode"),
    ("links of two owners", raw_entry(ino=7, nlink=2, uid=1) + raw_entry(b"b\0", ino=7, nlink=2) + TRAILER,
     "'b' states another mode, owner"),
    ("links of two devices", b"".join(raw_entry(name, ino=7, nlink=2, mode=0o20600, rdevminor=minor) for name, minor in
                                      ((b"a\0", 1), (b"b\0", 2))) + TRAILER, "time or device"),
    ("an owner that chown leaves", raw_entry(uid=0xFFFFFFFF) + TRAILER, "that Linux does not keep"),
    ("a group that chown leaves", raw_entry(gid=0xFFFFFFFF) + TRAILER, "that Linux does not keep"),
    ("a major of 13 bits", raw_entry(mode=0o20600, rdevmajor=1 << 12) + TRAILER, "that Linux does not keep"),
    ("a minor of 21 bits", raw_entry(mode=0o20600, rdevminor=1 << 20) + TRAILER, "that Linux does not keep"),
    ("damaged gzip", zipped(BOOT)[:-8] + bytes(8), "cannot be unpacked"),
    ("gzip in gzip", zipped(zipped(BOOT)), "1f8b0800"),
    ("an archive spread over two gzip parts", zipped(BOOT[:100]) + zipped(BOOT[100:]), "truncated"),
    *((name, magic + bytes(100), f"compressed with {name}") for name, magic in (
        ("bzip2", b"BZh9"), ("xz", b"\xfd7zXZ\0"), ("zstd", b"\x28\xb5\x2f\xfd"), ("lz4", b"\x02\x21\x4c\x18"),
        ("lzma", b"\x5d\0\0"), ("lzo", b"\x89LZO"),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "detail"), [case[1:] for case in UNREADABLE], ids=[case[0] for case in UNREADABLE])
def test_what_linux_would_reinterpret_or_drop_is_unreadable(raw: bytes, detail: str) -> None:
    with pytest.raises(EifError, match=detail) as refused:
        read_cpio(raw)
    assert refused.value.part == "ramdisk"


def test_unpacking_is_bounded_over_all_parts_together() -> None:
    bomb = zipped(raw_entry(data=bytes(4 << 20)) + TRAILER)
    size = (4 << 20) + 2 * len(raw_entry()) + 12
    assert len(read_cpio(bomb, Budget(max_bytes=size))) == 1
    for raw, bound in ((bomb, size - 1), (bomb * 3, 3 * size - 1)):
        with pytest.raises(EifError, match="unpacks to more than"):
            read_cpio(raw, Budget(max_bytes=bound))


def test_each_further_link_of_a_file_counts_as_unpacked() -> None:
    names = (b"a\0", b"b\0", b"c\0")
    raw = b"".join(raw_entry(name, b"x" * 100 * (name == b"c\0"), ino=7, nlink=3) for name in names) + TRAILER
    budget = Budget(max_bytes=200)
    assert len(read_cpio(raw, budget)) == 3
    assert budget.bytes_taken == 200
    with pytest.raises(EifError, match="unpacks to more than 199 bytes"):
        read_cpio(raw, Budget(max_bytes=199))


def test_entries_and_gzip_members_are_bounded_over_all_ramdisks_together() -> None:
    empty = zipped(TRAILER)
    with pytest.raises(EifError, match="more than 1000 gzip members"):
        read_cpio(empty * 501, budget := Budget(members_taken=500))
    assert budget.members_taken == 1001
    assert read_cpio(empty * 500, Budget(members_taken=500)) == ()
    full = Budget(entries_taken=MAX_ENTRIES - 1)
    assert len(read_cpio(write_cpio([file("a")]), full)) == 1
    with pytest.raises(EifError, match=f"more than {MAX_ENTRIES} entries"):
        read_cpio(write_cpio([file("a")]), full)


def test_a_file_name_in_a_gzip_header_is_skipped_as_linux_does() -> None:
    member = zipped(BOOT)
    assert read_cpio(member[:3] + b"\x08" + member[4:10] + b"ramdisk.cpio\0" + member[10:]) == read_cpio(BOOT)


def test_no_other_field_of_a_gzip_header_is_skipped_since_linux_inflates_it() -> None:
    """In the extra field of this member lies another archive, in stored blocks that end where zlib begins."""
    member, hidden = zipped(BOOT), write_cpio([file("hidden")])
    split = next(size for size in range(17, 254) if 256 * size - 8 >= len(hidden))
    hidden += bytes(256 * split - 8 - len(hidden))
    stored = (b"\0" + struct.pack("<HH", len(part), len(part) ^ 0xFFFF) + part for part in
              (hidden[: split], hidden[split:]))  # fmt: skip
    extra = b"".join(stored)
    raw = member[:3] + b"\x04" + member[4:10] + extra + member[10:]
    assert int.from_bytes(extra[:2], "little") == len(extra) - 2
    assert gzip.decompress(raw) == BOOT, "what zlib sees"
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw[10:])
    assert inflated == hidden + BOOT, "what Linux sees"
    with pytest.raises(EifError, match="a header that Linux reads in another way"):
        read_cpio(raw)


def test_every_other_flag_of_a_gzip_header_is_refused() -> None:
    for flags in set(range(256)) - {0, 8}:
        raw = BOOT + zipped(BOOT)
        at = len(BOOT) + 3
        with pytest.raises(EifError, match="a header that Linux reads in another way"):
            read_cpio(raw[:at] + bytes([flags]) + raw[at + 1 :])


def test_every_truncation_of_an_archive_is_unreadable() -> None:
    raw = write_cpio(TREE).rstrip(b"\0")
    for size in range(1, len(raw)):
        with pytest.raises(EifError):
            read_cpio(raw[:size])


@given(st.lists(st.tuples(st.integers(0, 1023), st.binary(min_size=1, max_size=8)), max_size=3), st.booleans())
def test_a_mutated_archive_gives_entries_or_an_eif_error(edits: list[tuple[int, bytes]], packed: bool) -> None:  # noqa: FBT001 - hypothesis
    raw = zipped(write_cpio(TREE)) if packed else write_cpio(TREE)
    for place, new in edits:
        raw = raw[:place] + new + raw[place + len(new) :]
    try:
        entries = read_cpio(raw)
    except EifError:
        return
    assert all(isinstance(entry, CpioEntry) for entry in entries)


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=9).filter(
    lambda name: name not in {".", ".."}
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@given(st.dictionaries(PATHS, st.binary(max_size=50), max_size=8))
def test_any_tree_is_read_as_it_was_written(contents: dict[str, bytes]) -> None:
    parents = {"/".join(path.split("/")[:depth]) for path in contents for depth in range(1, path.count("/") + 1)}
    files = [file(path, data) for path, data in contents.items() if path not in parents]
    found = {entry.path: entry for entry in read_cpio(write_cpio(with_parents(files)))}
    assert {entry.path: entry for entry in files} == {path: found[path] for path in found if path not in parents}
