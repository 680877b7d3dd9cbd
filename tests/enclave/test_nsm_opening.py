"""Which way leads to the module: the library that is there, else the ioctl, and never a second try in silence."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from tests.enclave.nsm_stub.compiling import LibraryStep, compile_extension, compile_library, needs_python_h

from pinaivu_enclave.nsm import InternalError
from pinaivu_enclave.nsm.device import KernelNsm
from pinaivu_enclave.nsm.extension import MODULE
from pinaivu_enclave.nsm.library import LibraryNsm
from pinaivu_enclave.nsm.opening import EXTENSION, LIBRARIES, NsmMissingError, open_nsm

STEP = LibraryStep(function="nsm_lock_pcr", number=16)
NO_EXTENSION = "pinaivu_enclave.nsm._not_compiled"


def log_of(records: list[logging.LogRecord]) -> list[tuple[str, object]]:
    return [(record.message, vars(record)["kv"]) for record in records]


def test_the_first_library_that_is_there_is_used_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = compile_library(tmp_path, [STEP])
    nsm = open_nsm(libraries=[tmp_path / "absent.so", path], extension=NO_EXTENSION)
    assert isinstance(nsm, LibraryNsm)
    nsm.lock_pcr(16)
    assert log_of(caplog.records) == [("nsm opened", {"through": str(path)})]


@needs_python_h
def test_without_a_library_the_ioctl_is_used_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(sys.modules, EXTENSION, compile_extension(tmp_path))
    nsm = open_nsm(libraries=[tmp_path / "absent.so"], device=Path("/dev/null"))
    assert isinstance(nsm, KernelNsm)
    with pytest.raises(InternalError, match="ENOTTY"):
        nsm.describe()
    assert log_of(caplog.records) == [("nsm opened", {"through": "ioctl on /dev/null"})]


@pytest.mark.parametrize("kind", ["text", "dangling link", "no function", "no device"])
def test_a_library_that_does_not_work_is_an_error_and_no_reason_to_try_the_ioctl(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "libnsm.so"
    match kind:
        case "text":
            path.write_text("no library")
        case "dangling link":
            path.symlink_to(tmp_path / "nowhere")
        case "no function":
            compile_library(tmp_path, [STEP], options=["-DWITHOUT_RANDOM"])
        case _:
            compile_library(tmp_path, [STEP], descriptor=-1)
    with pytest.raises(NsmMissingError, match=r"libnsm\.so is there but does not work"):
        open_nsm(libraries=[path], device=Path("/dev/null"))


def test_with_neither_way_the_error_names_both(tmp_path: Path) -> None:
    with pytest.raises(NsmMissingError, match=rf"no libnsm\.so.*{NO_EXTENSION}.*image builder compiles"):
        open_nsm(libraries=[tmp_path / "absent.so"], extension=NO_EXTENSION)


def test_what_the_image_builder_compiles_is_what_is_imported() -> None:
    assert EXTENSION == MODULE


@needs_python_h
def test_without_the_device_the_error_names_it_and_the_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, EXTENSION, compile_extension(tmp_path))
    with pytest.raises(NsmMissingError, match=r"absent cannot be opened \(ENOENT\).*CONFIG_NSM"):
        open_nsm(libraries=[], device=tmp_path / "absent")


def test_no_variable_of_the_environment_finds_a_library() -> None:
    assert all(path.is_absolute() for path in LIBRARIES)


def test_the_enclave_imports_no_builder_and_without_a_library_no_parser_of_c() -> None:
    program = (
        "import sys, pinaivu_enclave.nsm.opening, pinaivu_enclave.nsm.timestamp\n"
        "avoided = {'pinaivu_enclave.nsm.extension', 'pinaivu_enclave.nsm.library', 'cffi', 'pycparser'}\n"
        "assert not avoided & {*sys.modules}, avoided & {*sys.modules}\n"
        "import pinaivu_enclave.nsm.library\n"
        "assert 'pinaivu_enclave.nsm.extension' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
