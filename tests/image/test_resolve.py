"""A lock of today's versions: what apt and pip say, as they said it on the day that these lines were recorded."""

from pathlib import Path

import pytest
from tests.image.packages import Listener

from pinaivu_image import resolve as resolving
from pinaivu_image.errors import LockError, MirrorError
from pinaivu_image.fetch import InputCache
from pinaivu_image.lock import Deb
from pinaivu_image.mirrors import named_mirrors
from pinaivu_image.resolve import (
    parse_installed,
    parse_record,
    parse_records,
    parse_wheel_name,
    require_one_version,
    resolve,
)

INSTALLED = """\
Reading package lists...
Building dependency tree...
The following additional packages will be installed:
  gcc-14-base libc6 libgcc-s1 libzstd1 openssl-provider-legacy zlib1g
0 upgraded, 8 newly installed, 0 to remove and 0 not upgraded.
Inst gcc-14-base (14.2.0-19 Debian:13.8/stable [amd64])
Inst libgcc-s1 (14.2.0-19 Debian:13.8/stable [amd64]) []
Inst libc6 (2.41-12+deb13u5 Debian:13.8/stable [amd64])
Conf gcc-14-base (14.2.0-19 Debian:13.8/stable [amd64])
Inst libexpat1 (2.9.0-1~deb13u1 Debian-Security:13/stable-security, Debian:13.8/stable [amd64])
Inst zlib1g (1:1.3.dfsg+really1.3.1-1+deb13u1 Debian-Security:13/stable-security, Debian:13.8/stable [amd64])
Conf libexpat1 (2.9.0-1~deb13u1 Debian-Security:13/stable-security, Debian:13.8/stable [amd64])
"""
RECORD = """\
Package: libexpat1
Source: expat
Version: 2.9.0-1~deb13u1
Installed-Size: 427
Maintainer: Laszlo Boszormenyi (GCS)
Architecture: amd64
Description: XML parsing C library - runtime library
Description-md5: 969a775adb36dbfb73b9d7ef67f13bd6
Multi-Arch: same
Pre-Depends: libc6 (>= 2.36)
Filename: pool/updates/main/e/expat/libexpat1_2.9.0-1~deb13u1_amd64.deb
Size: 125744
SHA256: feff874772cae904ae4d24e917b35664952bec4b4ae9100a4edda5a7fa746832

"""
OLDER = RECORD.replace("2.9.0", "2.8.0").replace("pool/updates/main", "pool/main")
EXPAT = Deb(
    name="libexpat1",
    version="2.9.0-1~deb13u1",
    archive="debian-security",
    path="pool/updates/main/e/expat/libexpat1_2.9.0-1~deb13u1_amd64.deb",
    size=125744,
    sha256="feff874772cae904ae4d24e917b35664952bec4b4ae9100a4edda5a7fa746832",
)


def test_each_package_that_apt_would_install_is_taken_with_its_version() -> None:
    assert parse_installed(INSTALLED) == {
        "gcc-14-base": "14.2.0-19",
        "libgcc-s1": "14.2.0-19",
        "libc6": "2.41-12+deb13u5",
        "libexpat1": "2.9.0-1~deb13u1",
        "zlib1g": "1:1.3.dfsg+really1.3.1-1+deb13u1",
    }
    assert parse_installed("") == {}


def test_a_record_says_where_the_package_is_and_its_hash() -> None:
    assert parse_record(RECORD) == EXPAT
    assert parse_record(OLDER).archive == "debian"


def test_of_a_package_in_two_archives_the_first_is_taken() -> None:
    other = RECORD.replace("libexpat1", "libffi8")
    assert parse_records(f"{RECORD}{other}{OLDER}\n") == {"libexpat1": EXPAT, "libffi8": parse_record(other)}
    assert parse_records("") == {}


@pytest.mark.parametrize("field", ["Package", "Version", "Filename", "Size", "SHA256"])
def test_a_record_that_lacks_something_makes_no_lock(field: str) -> None:
    lines = [line for line in RECORD.splitlines() if not line.startswith(f"{field}: ")]
    with pytest.raises(LockError, match="what no lock can hold"):
        parse_record("\n".join(lines))


def test_a_record_that_leads_out_of_the_mirror_makes_no_lock() -> None:
    with pytest.raises(LockError, match=r"apt says of libexpat1 what no lock can hold: .*`\$\.path`"):
        parse_record(RECORD.replace("pool/updates/main", "pool/../.."))


def test_a_library_has_one_version_for_the_compiler_and_for_the_image() -> None:
    require_one_version({"libc6": "1", "gcc": "2"}, {"libc6": "1", "libffi8": "3"})
    with pytest.raises(LockError, match="libc6 has two versions: 1 and 2"):
        require_one_version({"libc6": "2"}, {"libc6": "1"})


@pytest.mark.parametrize(
    ("filename", "name", "version"),
    [
        ("trio-0.35.0-py3-none-any.whl", "trio", "0.35.0"),
        ("outcome-1.3.0.post0-py2.py3-none-any.whl", "outcome", "1.3.0.post0"),
        ("Typing_Extensions-4.15.0-py3-none-any.whl", "typing-extensions", "4.15.0"),
        ("cffi-2.1.1-cp313-cp313-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "cffi", "2.1.1"),
    ],
)
def test_a_wheel_is_named_by_its_file(filename: str, name: str, version: str) -> None:
    assert parse_wheel_name(filename) == (name, version)


def test_without_apt_or_its_keys_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrors = named_mirrors(["http://127.0.0.1:9/debian"])
    monkeypatch.setenv("PATH", str(tmp_path))
    for keyring, reason in ((tmp_path, "apt-get is missing: a lock is made on a Debian-like machine"),
                            (tmp_path / "absent", "absent is missing: install debian-archive-keyring")):  # fmt: skip
        monkeypatch.setattr(resolving, "KEYRING", keyring)
        with pytest.raises(MirrorError, match=reason):
            resolve(mirrors, tmp_path / "enclave.lock", InputCache(tmp_path), Listener())
