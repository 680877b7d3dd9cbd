"""The lock names every input of an image, exactly those of this checkout, and no server."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.image.packages import deb, lock, wheel

from pinaivu_image.contents import BOOT_FILES, KERNEL_SOURCE
from pinaivu_image.errors import LockError
from pinaivu_image.lock import LOCK_FILE, ImageLock, read_lock, write_lock

ROOT = Path(__file__).parents[2]


def read(folder: Path, content: bytes) -> ImageLock:
    (folder / "lock.json").write_bytes(content)
    return read_lock(folder / "lock.json")


def test_the_committed_lock_fits_this_checkout() -> None:
    assert {deb.name for deb in read_lock(LOCK_FILE).boot} == set(BOOT_FILES)


def test_the_committed_lock_has_the_wheels_that_the_enclave_is_developed_with() -> None:
    required = (ROOT / "requirements" / "enclave.lock").read_text()
    wheels = read_lock(LOCK_FILE).wheels
    assert {f"{one.name}=={one.version}" for one in wheels} == {
        line.split()[0] for line in required.splitlines() if "==" in line.split(";")[0]
    }
    for one in wheels:
        assert f"--hash=sha256:{one.sha256}" in required, one.name


def test_the_committed_lock_names_no_server() -> None:
    assert b"//" not in LOCK_FILE.read_bytes()


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    write_lock(lock(), tmp_path / "lock.json")
    assert read_lock(tmp_path / "lock.json") == lock()


def test_a_lock_that_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"absent/lock\.json: No such file"):
        write_lock(lock(), tmp_path / "absent" / "lock.json")
    with pytest.raises(LockError, match=r"absent\.json: No such file"):
        read_lock(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", "pool/../../secret.deb"),
        ("path", "pool/main/.hidden.deb"),
        ("path", "pool//main.deb"),
        ("path", "/pool/main/b/bc.deb"),
        ("path", "http://mirror/pool/bc.deb"),
        ("path", "pool/main/b/bc.deb?x=.deb"),
        ("path", "pool/main/b/bc.deb\n"),
        ("sha256", "A" * 64),
        ("sha256", "0" * 63),
        ("size", 0),
        ("size", -1),
        ("size", 1 << 40),
        ("archive", "ubuntu"),
        ("name", "bc\n--index-url"),
        ("name", "-oDir"),
        ("version", "1 2"),
        ("mirror", "http://mirror"),
    ],
)
def test_a_package_that_names_anything_else_than_itself_is_refused(tmp_path: Path, field: str, value: object) -> None:
    content = msgspec.to_builtins(lock())
    content["kernel"][field] = value
    with pytest.raises(LockError, match=r"lock.json: not a lock: .*\$\.kernel"):
        read(tmp_path, msgspec.json.encode(content))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "trio\n--index-url=x"),
        ("version", "1.0 --hash"),
        ("filename", "../trio.whl"),
        ("filename", "trio.tar.gz"),
        ("filename", "-trio.whl"),
        ("sha256", ""),
    ],
)
def test_a_wheel_that_names_anything_else_than_itself_is_refused(tmp_path: Path, field: str, value: str) -> None:
    content = msgspec.to_builtins(lock())
    content["wheels"][0][field] = value
    with pytest.raises(LockError, match=r"not a lock: .*\$\.wheels\[0\]"):
        read(tmp_path, msgspec.json.encode(content))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"suite": "sid"}, f"it has sid and {KERNEL_SOURCE}"),
        ({"kernel": deb("linux-source-5.10")}, "it has trixie and linux-source-5.10"),
        ({"boot": lock().boot[1:]}, "boot has nothing more, and lacks libc6"),
        ({"boot": (*lock().boot, deb("openssh-server"))}, "boot has openssh-server, and lacks nothing more"),
        ({"boot": (*lock().boot, deb("libc6", version="2"))}, "boot has libc6 twice"),
        ({"build": lock().build[1:]}, "build lacks bc"),
        ({"wheels": (wheel("trio"), wheel("trio", version="2"))}, "wheels has trio twice"),
    ],
)
def test_a_lock_of_another_checkout_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(LockError, match=f"does not fit this version of Pinaivu: {reason}"):
        read(tmp_path, msgspec.json.encode(msgspec.structs.replace(lock(), **changes)))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"version": 2}'])
def test_what_is_no_lock_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(LockError, match="not a lock"):
        read(tmp_path, content)


@given(st.data())
def test_a_lock_with_changed_bytes_is_a_lock_or_one_kind_of_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(msgspec.json.encode(lock()))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(tmp_path_factory.getbasetemp(), bytes(raw))
    except LockError:
        return
    assert {deb.name for deb in found.boot} == set(BOOT_FILES)
