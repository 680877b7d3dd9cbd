"""Of each package, wheel and of this checkout the image takes what is named, and nothing that nobody asked for."""

import stat
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.image.packages import cached, deb, entry, package, package_of, tar, wheel, wheel_bytes

from pinaivu_image.contents import APPLICATION_PACKAGES, BUILD_ONLY, INIT
from pinaivu_image.deb import PackageFile
from pinaivu_image.errors import InputError, LockError
from pinaivu_image.inputs import APPLICATION_INPUTS
from pinaivu_image.ramdisks import OURS, Contents, command_line
from pinaivu_image.selection import FILE, PROGRAM, application_files, boot_files, wheel_content, wheel_files
from pinaivu_shared.eif.cpio import read_cpio

ROOT = Path(__file__).parents[2]
LIBRARY = "usr/lib/x86_64-linux-gnu"
STDLIB = "usr/lib/python3.13"
COPYRIGHT = "usr/share/doc/libexpat1/copyright"
TRIO = {
    "trio/__init__.py": b"1",
    "trio/_core/_run.cpython-313-x86_64-linux-gnu.so": b"\x7fELF",
    "trio-1.0.dist-info/METADATA": b"2",
    "trio-1.0.dist-info/licenses/LICENSE": b"3",
}
NOT_FOR_THE_IMAGE = (
    "trio/__main__.py", "trio/_core/_tests/test_run.py", "trio/testing/_network.py", "trio/tests/conftest.py",
    "trio/__init__.pyi", "trio/py.typed", "trio/_core/run.c", "trio/include/run.h", "trio/_run.pyx", "trio/README.rst",
    "trio/__pycache__/__init__.cpython-313.pyc", "trio-1.0.dist-info/RECORD", "trio-1.0.dist-info/WHEEL",
    "trio-1.0.dist-info/entry_points.txt", "trio-1.0.dist-info/sboms/trio.json",
)  # fmt: skip


def selected(tmp_path: Path, files: Mapping[str, bytes], name: str = "libexpat1") -> dict[str, bytes]:
    raw = package_of(files)
    return {file.path: file.data for file in boot_files(deb(name, raw), cached(tmp_path, raw))}


def taken(tmp_path: Path, raw: bytes) -> dict[str, int]:
    return {file.path: file.mode for file in wheel_files(wheel("trio", raw), cached(tmp_path, raw))}


def test_of_a_package_the_named_files_and_its_copyright_are_taken(tmp_path: Path) -> None:
    named = {f"{LIBRARY}/libexpat.so.1": b"so", COPYRIGHT: b"MIT"}
    others = ("usr/bin/xmlwf", "etc/expat.conf", "usr/share/doc/libexpat1/changelog.gz", f"{LIBRARY}/libexpatw.so.1")
    assert selected(tmp_path, {**named, **dict.fromkeys(others, b"no")}) == named


def test_a_pattern_that_finds_nothing_refuses_the_lock(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"libexpat1 1\.0-1 has no file usr/lib/x86_64-linux-gnu/libexpat\.so\.\*"):
        selected(tmp_path, {f"{LIBRARY}/libexpat2.so.1": b"so", COPYRIGHT: b"MIT"})


def test_of_the_standard_library_what_an_intruder_would_like_stays_out(tmp_path: Path) -> None:
    kept = {f"{STDLIB}/traceback.py", f"{STDLIB}/json/__init__.py", f"{STDLIB}/encodings/utf_8.py"}
    gone = {
        *(f"{STDLIB}/{name}" for name in ("pickle.py", "smtplib.py", "asyncio/events.py", "pdb.py", "test/support.py")),
        *(f"{STDLIB}/{name}" for name in ("encodings/gbk.py", "json/tool.py", "__pycache__/os.cpython-313.pyc")),
    }
    assert selected(tmp_path, dict.fromkeys(kept | gone, b""), "libpython3.13-stdlib").keys() == kept


def test_a_module_that_could_be_started_is_a_module_like_any_other(tmp_path: Path) -> None:
    started = ((entry(f"./{STDLIB}/base64.py", mode=0o755), b"#!"), (entry(f"./{STDLIB}/os.py"), b""))
    raw = package(tar(*started))
    files = boot_files(deb("libpython3.13-stdlib", raw), cached(tmp_path, raw))
    assert [file.mode for file in files] == [FILE, FILE]


def test_of_a_wheel_modules_extensions_and_licences_are_taken(tmp_path: Path) -> None:
    assert taken(tmp_path, wheel_bytes({**TRIO, **dict.fromkeys(NOT_FOR_THE_IMAGE, b"no")})) == {
        path: PROGRAM if path.endswith(".so") else FILE for path in TRIO
    }


def test_a_build_has_all_of_a_wheel(tmp_path: Path) -> None:
    raw = wheel_bytes({**TRIO, **dict.fromkeys(NOT_FOR_THE_IMAGE, b"")})
    content = [file.path for file in wheel_content(wheel("trio", raw), cached(tmp_path, raw))]
    assert content == sorted({*TRIO, *NOT_FOR_THE_IMAGE})


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("trio-1.0.data/scripts/trio", "belongs outside the import folder"),
        ("trio-1.0.data/data/etc/trio.conf", "belongs outside the import folder"),
        ("../../../init", "lies outside"),
        ("trio/../../x.py", "lies outside"),
        ("/etc/passwd", "lies outside"),
    ],
)
def test_a_wheel_that_installs_elsewhere_is_refused(tmp_path: Path, path: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"trio-1.0-py3-none-any.whl: .*{reason}"):
        taken(tmp_path, wheel_bytes({**TRIO, path: b""}))


def test_a_module_called_data_is_a_module(tmp_path: Path) -> None:
    assert taken(tmp_path, wheel_bytes({"trio/x.data/y.py": b""})) == {"trio/x.data/y.py": FILE}


def test_an_encrypted_wheel_is_refused(tmp_path: Path) -> None:
    raw = bytearray(wheel_bytes({"trio.py": b"1"}))
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(InputError, match="encrypted"):
        taken(tmp_path, bytes(raw))


@given(st.data())
def test_a_wheel_with_changed_bytes_is_files_or_one_kind_of_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    with zipfile.ZipFile(written := BytesIO(), "w", data.draw(st.sampled_from([0, 8, 12, 14]))) as archive:
        archive.writestr(zipfile.ZipInfo("trio/__init__.py"), b"x" * 50)
    raw = bytearray(written.getvalue())
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(len(raw) // 2, len(raw)))]
    try:
        found = taken(tmp_path_factory.getbasetemp(), bytes(raw))
    except InputError:
        return
    assert all(not path.startswith("/") and ".." not in path.split("/") for path in found)


def test_of_this_checkout_modules_and_certificates_are_taken(tmp_path: Path) -> None:
    for ours in APPLICATION_PACKAGES:
        (tmp_path / ours / "core").mkdir(parents=True)
        for name in ("__init__.py", "core/x.py", "root.pem", "notes.txt", "x.pyc", "core/.x.py.swp", "py.typed"):
            (tmp_path / ours / name).write_bytes(name.encode())
    (tmp_path / INIT).touch()
    files = {file.path: file for file in application_files(tmp_path)}
    assert files.keys() == {
        f"{package.rpartition('/')[2]}/{name}"
        for package in APPLICATION_PACKAGES
        for name in ("__init__.py", "core/x.py", "root.pem")
    }
    assert {file.mode for file in files.values()} == {FILE}


def test_what_is_ours_and_compiled_otherwise_is_there_and_not_taken() -> None:
    paths = {file.path for file in application_files(ROOT)}
    assert "pinaivu_enclave/program.py" in paths
    for path in BUILD_ONLY:
        assert (ROOT / "enclave" / path).is_file()
        assert path not in paths


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="is no checkout of Pinaivu: enclave/pinaivu_enclave is missing"):
        list(application_files(tmp_path))
    for content in (None, b"x = 1\n", b"COMMAND_LINE = 1\n", b"COMMAND_LINE = (\n", b"\0"):
        if content is not None:
            (tmp_path / INIT).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / INIT).write_bytes(content)
        with pytest.raises(LockError, match=r"is no checkout of Pinaivu|has no COMMAND_LINE"):
            command_line(tmp_path)


def test_the_command_line_is_the_one_that_init_demands() -> None:
    assert command_line(ROOT).startswith(b"reboot=k panic=30")


def test_two_inputs_with_one_path_are_refused_since_chance_would_decide() -> None:
    contents = Contents(inputs_path=APPLICATION_INPUTS)
    contents.add("attrs", [PackageFile("attr/__init__.py", FILE, b"1")], below="lib")
    with pytest.raises(InputError, match=r"lib/attr/__init__\.py is brought by attrs and by attr"):
        contents.add("attr", [PackageFile("lib/attr/__init__.py", FILE, b"1")])


def test_bytecode_belongs_to_the_input_of_its_source() -> None:
    contents = Contents(inputs_path=APPLICATION_INPUTS)
    contents.add("trio", [PackageFile("lib/trio/abc.py", FILE, b"")])
    contents.add_bytecode([PackageFile("lib/trio/__pycache__/abc.cpython-313.pyc", FILE, b"")])
    assert contents.origins["lib/trio/__pycache__/abc.cpython-313.pyc"] == "trio"


def test_an_archive_does_not_depend_on_the_order_of_its_files() -> None:
    files = [PackageFile(path, FILE, path.encode()) for path in ("b/x.py", "a/y.py", "a.py")]
    archives = []
    for order in (files, files[::-1]):
        contents = Contents(inputs_path=APPLICATION_INPUTS)
        contents.add(OURS, order)
        archives.append(contents.archive())
    assert archives[0] == archives[1]
    written = {one.path for one in read_cpio(archives[0]) if stat.S_ISREG(one.mode)}
    assert written == {"a.py", "a/y.py", "b/x.py", APPLICATION_INPUTS}
