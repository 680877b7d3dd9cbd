"""libnsm.so as it may fail: each error code, lengths that lie, and what is no such library."""

from pathlib import Path
from typing import Any

import pytest
from tests.enclave.nsm_stub.compiling import LibraryStep, compile_library

from pinaivu_enclave.nsm import NSM_ERRORS, InternalError, InvalidArgumentError, InvalidResponseError, NsmError
from pinaivu_enclave.nsm.library import LibraryNsm, ffi

CALLS: dict[str, tuple[LibraryStep, Any]] = {
    "describe": (LibraryStep(function="nsm_get_description"), lambda nsm: nsm.describe()),
    "describe_pcr": (LibraryStep(function="nsm_describe_pcr", number=5), lambda nsm: nsm.describe_pcr(5)),
    "extend_pcr": (
        LibraryStep(function="nsm_extend_pcr", number=5, given=(b"x",)),
        lambda nsm: nsm.extend_pcr(5, b"x"),
    ),
    "lock_pcr": (LibraryStep(function="nsm_lock_pcr", number=5), lambda nsm: nsm.lock_pcr(5)),
    "lock_pcrs": (LibraryStep(function="nsm_lock_pcrs", number=5), lambda nsm: nsm.lock_pcrs(5)),
    "attest": (
        LibraryStep(function="nsm_get_attestation_doc", given=(b"", None, b"k")),
        lambda nsm: nsm.attest(public_key=b"k", user_data=b"", nonce=None),
    ),
    "random": (LibraryStep(function="nsm_get_random", number=5), lambda nsm: nsm.random(5)),
}


def answering(step: LibraryStep, **changes: Any) -> LibraryStep:
    return LibraryStep(**{**vars(step), **changes})


def test_the_struct_has_the_layout_of_the_library() -> None:
    assert ffi.sizeof("NsmDescription") == 252
    assert ffi.offsetof("NsmDescription", "module_id_len") == 108
    assert ffi.offsetof("NsmDescription", "locked_pcrs_len") == 244


@pytest.mark.parametrize("operation", CALLS)
def test_each_code_is_its_own_exception(operation: str, tmp_path: Path) -> None:
    step, ask = CALLS[operation]
    nsm = LibraryNsm(compile_library(tmp_path, [answering(step, code=code) for code in range(1, 9)]))
    for error in NSM_ERRORS.values():
        with pytest.raises(NsmError) as raised:
            ask(nsm)
        assert type(raised.value) is error


@pytest.mark.parametrize("code", [9, -1, 2**31 - 1])
def test_a_code_that_the_enum_does_not_have_is_no_answer(code: int, tmp_path: Path) -> None:
    step, ask = CALLS["lock_pcr"]
    nsm = LibraryNsm(compile_library(tmp_path, [answering(step, code=code)]))
    with pytest.raises(InvalidResponseError, match=f"unknown error code {code}"):
        ask(nsm)


@pytest.mark.parametrize(
    ("operation", "changes"),
    [
        ("describe_pcr", {"announced": 0}),
        ("describe_pcr", {"answer": bytes(47)}),
        ("describe_pcr", {"answer": bytes(48), "announced": 49}),
        ("extend_pcr", {"answer": bytes(32)}),
        ("extend_pcr", {"answer": bytes(48), "announced": 2**32 - 1}),
        ("attest", {"announced": 0}),
        ("attest", {"answer": b"document", "announced": 16385}),
        ("random", {"answer": b"abcde", "announced": 6}),
        ("random", {"announced": 0}),
        ("describe", {"answer": b"i-1", "announced": 0}),
        ("describe", {"answer": b"i-1", "announced": 100}),
        ("describe", {"answer": b"i-1", "announced": 2**32 - 1}),
        ("describe", {"answer": b"i-\xff"}),
        ("describe", {"answer": b"i-1", "flags": 1 << 32}),
        ("describe", {"answer": b"i-1", "flags": 2**33 - 1}),
    ],
)
def test_an_answer_that_cannot_be_is_refused(operation: str, changes: dict[str, Any], tmp_path: Path) -> None:
    step, ask = CALLS[operation]
    nsm = LibraryNsm(compile_library(tmp_path, [answering(step, **changes)]))
    with pytest.raises(InvalidResponseError):
        ask(nsm)


@pytest.mark.parametrize("length", [33, 65, 2**32 - 1])
def test_more_locked_registers_than_there_are_is_no_answer(length: int, tmp_path: Path) -> None:
    step, ask = CALLS["describe"]
    path = compile_library(tmp_path, [answering(step, answer=b"i-1")], options=[f"-DLOCKED_PCRS_LEN={length}u"])
    with pytest.raises(InvalidResponseError, match="lengths beyond their fields"):
        ask(LibraryNsm(path))


@pytest.mark.parametrize("digest", [-1, 3])
def test_a_digest_that_the_enum_does_not_have_is_no_answer(digest: int, tmp_path: Path) -> None:
    step, ask = CALLS["describe"]
    nsm = LibraryNsm(compile_library(tmp_path, [answering(step, answer=b"i-1")], digest=digest))
    with pytest.raises(InvalidResponseError, match=f"digest {digest}"):
        ask(nsm)


def test_random_bytes_are_gathered_until_there_are_enough(tmp_path: Path) -> None:
    steps = [
        LibraryStep(function="nsm_get_random", number=5, answer=b"ab"),
        LibraryStep(function="nsm_get_random", number=3, answer=b"c"),
        LibraryStep(function="nsm_get_random", number=2, answer=b"de"),
    ]
    assert LibraryNsm(compile_library(tmp_path, steps)).random(5) == b"abcde"


@pytest.mark.parametrize("size", [-1, 0, 257])
def test_a_size_that_the_module_does_not_give_is_not_asked_for(size: int, tmp_path: Path) -> None:
    step, _ = CALLS["lock_pcr"]
    with pytest.raises(InvalidArgumentError):
        LibraryNsm(compile_library(tmp_path, [step])).random(size)


def test_a_library_that_cannot_open_the_device_is_no_module(tmp_path: Path) -> None:
    step, _ = CALLS["lock_pcr"]
    with pytest.raises(InternalError, match="cannot open /dev/nsm"):
        LibraryNsm(compile_library(tmp_path, [step], descriptor=-1))


def test_a_library_without_one_of_the_functions_is_not_used(tmp_path: Path) -> None:
    step, _ = CALLS["lock_pcr"]
    with pytest.raises(AttributeError, match="nsm_get_random"):
        LibraryNsm(compile_library(tmp_path, [step], options=["-DWITHOUT_RANDOM"]))
