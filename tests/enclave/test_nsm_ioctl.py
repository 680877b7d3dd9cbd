"""The ioctl on /dev/nsm: the C that is written for the image builder, and what the kernel may answer instead."""

import os
import subprocess
import sys
from pathlib import Path

import cbor2
import pytest
from tests.enclave.nsm_stub.compiling import compile_extension, compile_extension_over_stub, needs_python_h

from pinaivu_enclave.nsm import (
    MAX_REQUEST_BYTES,
    BufferTooSmallError,
    InputTooLargeError,
    InternalError,
    InvalidArgumentError,
    messages,
)
from pinaivu_enclave.nsm.device import IoctlExchange, KernelNsm

NULL = Path("/dev/null")
LOCK = messages.lock_pcr(16)


def test_the_source_is_the_same_every_time_and_names_no_folder(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys; from pinaivu_enclave.nsm.extension import write_source as w; w(pathlib.Path(sys.argv[1]))"
    )
    written = []
    for seed in ("0", "1"):
        path = tmp_path / seed / "_nsm_ioctl.c"
        path.parent.mkdir()
        subprocess.run(
            [sys.executable, "-c", program, path],
            check=True,
            cwd=path.parent,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        written.append(path.read_text())
    assert written[0] == written[1]
    assert "0xC0200A00" in written[0]
    assert str(tmp_path) not in written[0]


@needs_python_h
def test_the_extension_uses_the_stable_abi(tmp_path: Path) -> None:
    compile_extension(tmp_path)
    symbols = subprocess.run(
        ["nm", "-D", tmp_path / "_nsm_ioctl.abi3.so"], check=True, capture_output=True, text=True
    ).stdout
    wanted = {line.split()[-1].partition("@")[0] for line in symbols.splitlines() if " U " in line}
    assert "ioctl" in wanted
    assert not [name for name in wanted if name.startswith("_Py") and name != "_Py_Dealloc"]


@needs_python_h
def test_a_file_that_is_no_module_is_named_with_the_errno(tmp_path: Path) -> None:
    exchange = IoctlExchange(compile_extension(tmp_path), NULL)
    with pytest.raises(InternalError, match="ioctl on /dev/null: ENOTTY"):
        KernelNsm(exchange).describe()
    exchange.close()
    with pytest.raises(InternalError, match="EBADF"):
        exchange(messages.DESCRIBE)


@needs_python_h
@pytest.mark.parametrize("failure", ["EFAULT", "ETIMEDOUT", "EIO", "ENODATA", "9999"])
def test_every_other_errno_is_an_internal_error_that_names_it(failure: str, tmp_path: Path) -> None:
    exchange = IoctlExchange(compile_extension_over_stub(tmp_path, [(LOCK, b"")], failure=failure), NULL)
    with pytest.raises(InternalError, match=failure):
        exchange(LOCK)
    exchange.close()


@needs_python_h
def test_a_request_that_the_driver_finds_too_long_is_too_large(tmp_path: Path) -> None:
    longest = b"x" * MAX_REQUEST_BYTES
    exchange = IoctlExchange(compile_extension_over_stub(tmp_path, [(longest, b"answer")]), NULL)
    assert exchange(longest) == b"answer"
    with pytest.raises(InputTooLargeError, match="4097 bytes"):
        exchange(longest + b"x")
    exchange.close()


@needs_python_h
def test_an_interrupted_call_is_made_again_with_the_same_argument(tmp_path: Path) -> None:
    """The stub interrupts every third call, the first one too, and zeroes its argument."""
    exchanges = [(bytes([number]), bytes([number]) * 3) for number in range(9)]
    exchange = IoctlExchange(compile_extension_over_stub(tmp_path, exchanges), NULL)
    assert [exchange(request) for request, _ in exchanges] == [answer for _, answer in exchanges]
    exchange.close()


@needs_python_h
def test_an_answer_that_fills_the_buffer_may_have_been_cut_off(tmp_path: Path) -> None:
    documents = [cbor2.dumps({"Attestation": {"document": bytes(size)}}) for size in (12261, 12262, 16000)]
    request = messages.attest(public_key=None, user_data=None, nonce=None)
    extension = compile_extension_over_stub(tmp_path, [(request, document) for document in documents])
    exchange = IoctlExchange(extension, NULL)
    nsm = KernelNsm(exchange)
    assert len(nsm.attest(public_key=None, user_data=None, nonce=None)) == 12261
    for _ in documents[1:]:
        with pytest.raises(BufferTooSmallError):
            nsm.attest(public_key=None, user_data=None, nonce=None)
    exchange.close()


def test_random_bytes_are_gathered_from_as_many_answers_as_it_takes() -> None:
    answers = iter([b"ab", b"c", b"defgh"])
    asked: list[bytes] = []

    def exchange(request: bytes) -> bytes:
        asked.append(request)
        return cbor2.dumps({"GetRandom": {"random": next(answers)}})

    nsm = KernelNsm(exchange)
    assert nsm.random(5) == b"abcde"
    assert asked == [messages.RANDOM] * 3
    for size in (-1, 0, 257):
        with pytest.raises(InvalidArgumentError):
            nsm.random(size)
    assert len(asked) == 3
