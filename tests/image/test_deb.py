"""Debian packages are read whole and in order, or refused; nothing in one can lead out of it."""

import stat
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.image.packages import COMPRESS, ar, entry, package, tar

from pinaivu_image.deb import PackageFile, read_deb
from pinaivu_image.errors import InputError

FILE, PROGRAM, LINK = stat.S_IFREG | 0o644, stat.S_IFREG | 0o755, stat.S_IFLNK | 0o777
DATA = tar(
    (entry("./usr/bin/", kind=tarfile.DIRTYPE, mode=0o755), b""),
    (entry("./usr/bin/tool", mode=0o4755), b"#!/bin/sh\n"),
    (entry("./usr/bin/same", kind=tarfile.LNKTYPE, mode=0o755, link="./usr/bin/tool"), b""),
    (entry("./usr/bin/alias", kind=tarfile.SYMTYPE, mode=0o777, link="tool"), b""),
    (entry("./usr/share/notes", mode=0o600), b"notes"),
)
FILES = [
    PackageFile("usr/bin/tool", PROGRAM, b"#!/bin/sh\n"),
    PackageFile("usr/bin/same", PROGRAM, b"#!/bin/sh\n"),
    PackageFile("usr/bin/alias", LINK, b"tool"),
    PackageFile("usr/share/notes", FILE, b"notes"),
]
HOSTILE = {
    "above": entry("../etc/passwd"),
    "above, in the middle": entry("./usr/../../etc/passwd"),
    "absolute": entry("/etc/passwd"),
    "nowhere": entry("."),
    "device": entry("./dev/sda", kind=tarfile.BLKTYPE),
    "pipe": entry("./run/pipe", kind=tarfile.FIFOTYPE),
    "hard link to nothing": entry("./usr/bin/x", kind=tarfile.LNKTYPE, link="./usr/bin/absent"),
    "hard link to itself": entry("./usr/bin/x", kind=tarfile.LNKTYPE, link="./usr/bin/x"),
    "hard link out": entry("./usr/bin/x", kind=tarfile.LNKTYPE, link="/etc/shadow"),
}


@pytest.mark.parametrize("compression", COMPRESS)
def test_files_and_links_are_read_without_owner_time_or_setuid_bit(compression: str) -> None:
    assert list(read_deb("tool 1", package(DATA, compression))) == FILES


def test_a_compression_that_python_lacks_is_named() -> None:
    with pytest.raises(InputError, match=r"tool 1: data\.tar\.zst: only \.bz2, \.gz, \.xz can be unpacked"):
        list(read_deb("tool 1", ar(("data.tar.zst", b"\x28\xb5\x2f\xfd"))))


@pytest.mark.parametrize("name", HOSTILE)
def test_what_leads_out_of_a_package_or_is_no_file_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="tool 1: "):
        list(read_deb("tool 1", package(tar((HOSTILE[name], b"")))))


def test_a_file_with_holes_is_refused_rather_than_filled() -> None:
    holes = entry("./usr/holes")
    holes.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 60)}
    with pytest.raises(InputError, match="neither a file nor a link"):
        list(read_deb("tool 1", package(tar((holes, b"1\n0\n1\n".ljust(512, b"\0") + b"x")))))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not a Debian package"),
        (b"PK\x03\x04", "not a Debian package"),
        (ar(), "without its data"),
        (ar(("debian-binary", b"2.0\n"), ("control.tar", tar())), "without its data"),
        (ar(("data.tar.xz", b"no xz")), "cannot be unpacked"),
        (ar(("data.tar.gz", b"no gz")), "cannot be unpacked"),
        (ar(("data.tar.gz", bytes.fromhex("1f8b0800000000000003") + b"\xff" * 20)), "cannot be unpacked"),
        (ar(("data.tar.bz2", b"no bz2")), "cannot be unpacked"),
        (ar(("data.tar", b"no tar" * 200)), "cannot be unpacked"),
    ],
)
def test_what_is_no_package_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        list(read_deb("tool 1", raw))


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_package_cut_off_anywhere_is_refused(compression: str) -> None:
    raw = package(DATA, compression)
    raw = raw if len(COMPRESS[compression](DATA)) % 2 == 0 else raw[:-1]
    for length in range(0, len(raw), 1 if len(raw) < 2000 else 61):
        with pytest.raises(InputError):
            list(read_deb("tool 1", raw[:length]))


@given(st.binary(max_size=600))
def test_any_bytes_are_files_or_one_kind_of_error(raw: bytes) -> None:
    for compression in ("", ".gz", ".xz", ".bz2", ".zst"):
        readable_or_refused(b"!<arch>\n" + raw)
        readable_or_refused(ar((f"data.tar{compression}", raw)))


@given(st.sampled_from(sorted(COMPRESS)), st.data())
def test_a_package_with_changed_bytes_is_files_or_one_kind_of_error(compression: str, data: st.DataObject) -> None:
    raw = bytearray(package(DATA.rstrip(b"\0") + bytes(1024), compression))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    readable_or_refused(bytes(raw))


def readable_or_refused(raw: bytes) -> None:
    try:
        files = list(read_deb("tool 1", raw))
    except InputError:
        return
    for file in files:
        assert not file.path.startswith("/")
        assert ".." not in file.path.split("/")
        assert file.mode in {FILE, PROGRAM, LINK}
