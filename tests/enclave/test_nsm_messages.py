"""What is said to /dev/nsm and what it says, byte by byte; the hex is written from nsm-api's types, not by our code."""

from collections.abc import Callable, Iterator
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.enclave.nsm_recorded import recorded_exchanges

from pinaivu_enclave.nsm import (
    NSM_ERRORS,
    InvalidIndexError,
    InvalidResponseError,
    NsmDescription,
    NsmError,
    messages,
)

READERS: dict[str, Callable[[bytes], object]] = {
    "DescribeNSM": messages.read_description,
    "DescribePCR": messages.read_pcr,
    "ExtendPCR": messages.read_extended,
    "LockPCR": messages.read_locked,
    "LockPCRs": messages.read_range_locked,
    "Attestation": messages.read_document,
    "GetRandom": messages.read_random,
}
DESCRIPTION = {
    "version_major": 1,
    "version_minor": 0,
    "version_patch": 0,
    "module_id": "i-1234-enc5678",
    "max_pcrs": 32,
    "locked_pcrs": [*range(16), 24],
    "digest": "SHA384",
}
VALUE = bytes(range(48))


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (messages.DESCRIBE, "6b 4465736372696265 4e534d"),
        (messages.describe_pcr(16), "a1 6b 4465736372696265504352 a1 65 696e646578 10"),
        (messages.describe_pcr(23), "a1 6b 4465736372696265504352 a1 65 696e646578 17"),
        (messages.describe_pcr(24), "a1 6b 4465736372696265504352 a1 65 696e646578 1818"),
        (messages.describe_pcr(256), "a1 6b 4465736372696265504352 a1 65 696e646578 190100"),
        (messages.extend_pcr(16, b""), "a1 69 457874656e64504352 a2 65 696e646578 10 64 64617461 40"),
        (messages.extend_pcr(31, b"\1\2"), "a1 69 457874656e64504352 a2 65 696e646578 181f 64 64617461 42 0102"),
        (messages.lock_pcr(16), "a1 67 4c6f636b504352 a1 65 696e646578 10"),
        (messages.lock_pcrs(32), "a1 68 4c6f636b50435273 a1 65 72616e6765 1820"),
        (messages.lock_pcrs(0), "a1 68 4c6f636b50435273 a1 65 72616e6765 00"),
        (
            messages.attest(public_key=None, user_data=None, nonce=None),
            "a1 6b 4174746573746174696f6e a3 69 757365725f64617461 f6 65 6e6f6e6365 f6 6a 7075626c69635f6b6579 f6",
        ),
        (
            messages.attest(public_key=b"\x30", user_data=b"", nonce=b"\xaa\xbb"),
            "a1 6b 4174746573746174696f6e a3 69 757365725f64617461 40 65 6e6f6e6365 42aabb6a 7075626c69635f6b6579 4130",
        ),
        (messages.RANDOM, "69 47657452616e646f6d"),
    ],
)
def test_a_request_is_these_bytes(request_bytes: bytes, expected: str) -> None:
    assert request_bytes == bytes.fromhex(expected)


@pytest.mark.parametrize("number", [-1, 65536, 2**64])
def test_a_number_that_no_request_can_hold_names_no_register(number: int) -> None:
    asks: list[Callable[[], bytes]] = [
        lambda: messages.describe_pcr(number),
        lambda: messages.extend_pcr(number, b""),
        lambda: messages.lock_pcr(number),
        lambda: messages.lock_pcrs(number),
    ]
    for ask in asks:
        with pytest.raises(InvalidIndexError, match=str(number)):
            ask()


# QEMU's order of keys; its locks are the numbers 0 to 15 and 24.
QEMU_DESCRIPTION = (
    "a1 6b 44657363726962654e534d a7 66 646967657374 66 534841333834 68 6d61785f70637273 1820"
    "69 6d6f64756c655f6964 6e 692d313233342d656e6335363738"
    "6b 6c6f636b65645f70637273 91 000102030405060708090a0b0c0d0e0f 1818"
    "6d 76657273696f6e5f6d616a6f72 01 6d 76657273696f6e5f6d696e6f72 00 6d 76657273696f6e5f7061746368 00"
)


@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        (
            "DescribeNSM",
            QEMU_DESCRIPTION,
            NsmDescription(
                version=(1, 0, 0),
                module_id="i-1234-enc5678",
                max_pcrs=32,
                locked_pcrs=frozenset([*range(16), 24]),
                digest="SHA384",
            ),
        ),
        (
            "DescribePCR",
            f"a1 6b 4465736372696265504352 a2 64 6c6f636b f5 64 64617461 5830 {VALUE.hex()}",
            (True, VALUE),
        ),
        (
            "DescribePCR",
            f"a1 6b 4465736372696265504352 a2 64 64617461 5830 {VALUE.hex()} 64 6c6f636b f4",
            (False, VALUE),
        ),
        ("ExtendPCR", f"a1 69 457874656e64504352 a1 64 64617461 5830 {VALUE.hex()}", VALUE),
        ("ExtendPCR", f"bf 69 457874656e64504352 bf 64 64617461 5830 {VALUE.hex()} ff ff", VALUE),
        ("LockPCR", "67 4c6f636b504352", None),
        ("LockPCRs", "68 4c6f636b50435273", None),
        ("Attestation", "a1 6b 4174746573746174696f6e a1 68 646f63756d656e74 43 840102", b"\x84\1\2"),
        ("GetRandom", "a1 69 47657452616e646f6d a1 66 72616e646f6d 42 0102", b"\1\2"),
    ],
)
def test_an_answer_is_read(name: str, answer: str, expected: object) -> None:
    assert READERS[name](bytes.fromhex(answer)) == expected


def test_fields_that_a_newer_module_adds_are_no_obstacle() -> None:
    assert messages.read_random(cbor2.dumps({"GetRandom": {"random": b"x", "quality": 1000}})) == b"x"


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("name", NSM_ERRORS)
def test_each_error_is_its_own_exception(reader: Callable[[bytes], object], name: str) -> None:
    with pytest.raises(NSM_ERRORS[name]) as raised:
        reader(bytes.fromhex("a1 65 4572726f72") + cbor2.dumps(name))
    assert type(raised.value).name == name


def test_every_name_of_the_c_enum_has_an_exception() -> None:
    assert list(NSM_ERRORS) == [
        "InvalidArgument", "InvalidIndex", "InvalidResponse", "ReadOnlyIndex", "InvalidOperation", "BufferTooSmall",
        "InputTooLarge", "InternalError",
    ]  # fmt: skip
    assert len(set(NSM_ERRORS.values())) == 8


@pytest.mark.parametrize("asked", READERS)
def test_an_answer_to_another_request_is_none(asked: str) -> None:
    others = [answer for name, answer in answers_by_name() if name != asked]
    assert len(others) > 25
    for answer in others:
        with pytest.raises(InvalidResponseError, match=f"no answer to {asked}"):
            READERS[asked](answer)


def answers_by_name() -> Iterator[tuple[str, bytes]]:
    """The answers of the conversation that are no errors, each with the request's name."""
    for request, answer in recorded_exchanges():
        asked, answered = cbor2.loads(request), cbor2.loads(answer)
        if "Error" not in answered:
            yield (asked if isinstance(asked, str) else next(iter(asked))), answer


def change(name: str, value: object) -> dict[str, Any]:
    return {"DescribeNSM": {**DESCRIPTION, name: value}}


BAD_PCRS: list[object] = [
    {},
    [],
    None,
    {"lock": 1, "data": VALUE},
    {"lock": None, "data": VALUE},
    {"data": VALUE},
    {"lock": True},
    {"lock": True, "data": VALUE[:47]},
    {"lock": True, "data": bytes(49)},
    {"lock": True, "data": "0" * 48},
    {"lock": True, "data": [0] * 48},
]
MALFORMED: list[tuple[str, object]] = [
    *(("DescribeNSM", {"DescribeNSM": {k: v for k, v in DESCRIPTION.items() if k != name}}) for name in DESCRIPTION),
    *(
        ("DescribeNSM", change(name, value))
        for name, value in [
            ("version_major", True),
            ("version_minor", -1),
            ("version_patch", 65536),
            ("version_patch", 1.0),
            ("module_id", ""),
            ("module_id", "i" * 101),
            ("module_id", b"i-1234"),
            ("max_pcrs", "32"),
            ("locked_pcrs", None),
            ("locked_pcrs", {0: 1}),
            ("locked_pcrs", [32]),
            ("locked_pcrs", [-1]),
            ("locked_pcrs", [True]),
            ("locked_pcrs", [0] * 33),
            ("digest", 1),
        ]
    ),
    *(("DescribePCR", {"DescribePCR": fields}) for fields in BAD_PCRS),
    ("ExtendPCR", {"ExtendPCR": {"data": b""}}),
    ("ExtendPCR", "ExtendPCR"),
    ("LockPCR", {"LockPCR": None, "LockPCRs": None}),
    ("LockPCR", {"LockPCR": {}}),
    ("LockPCRs", "LockPCR"),
    ("Attestation", {"Attestation": {"document": b""}}),
    ("Attestation", {"Attestation": {"document": "text"}}),
    ("GetRandom", {"GetRandom": {"random": b""}}),
    ("GetRandom", {"GetRandom": {"random": 7}}),
    ("GetRandom", {"Error": "Success"}),
    ("GetRandom", {"Error": 4}),
    ("GetRandom", {"Error": {"ReadOnlyIndex": None}}),
    ("GetRandom", "Error"),
    ("GetRandom", {}),
    ("GetRandom", []),
    ("GetRandom", None),
    ("GetRandom", 0),
]


@pytest.mark.parametrize(("name", "answer"), MALFORMED)
def test_a_malformed_answer_is_refused(name: str, answer: object) -> None:
    with pytest.raises(InvalidResponseError):
        READERS[name](cbor2.dumps(answer))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "premature end"),
        ("67 4c6f636b504352 00", "1 bytes after the answer"),
        ("a2 67 4c6f636b504352 f6 67 4c6f636b504352 f6", "Duplicate"),
        ("a1 01 02", "map key must be"),
        ("d9d9f7 67 4c6f636b504352", "semantic tag 55799"),
        ("c5 82 1b7fffffffffffffff 01", "semantic tag 5"),  # a number of 2^63 bits
        ("d81c 67 4c6f636b504352", "semantic tag 28"),
        ("81 81 81 81 81 00", "depth"),
        ("67 4c6f636b5043ff", "text string"),
        ("5b ffffffffffffffff 00", "premature end"),
        ("9b ffffffffffffffff 00", "premature end"),
    ],
)
def test_cbor_that_no_module_writes_is_refused(answer: str, reason: str) -> None:
    with pytest.raises(InvalidResponseError, match=reason):
        messages.read_locked(bytes.fromhex(answer))


def test_an_answer_beyond_the_drivers_buffer_is_not_read() -> None:
    longest = cbor2.dumps({"Attestation": {"document": bytes(0x3000 - 26)}})
    assert len(longest) == messages.MAX_RESPONSE_BYTES
    assert len(messages.read_document(longest)) == 0x3000 - 26
    with pytest.raises(InvalidResponseError, match="12289 bytes, at most 12288"):
        messages.read_document(longest + b"\0")


def read_by_all(answer: bytes) -> None:
    """No reader lets anything out but a value or an error of the module."""
    for reader in READERS.values():
        try:
            reader(answer)
        except NsmError:
            continue


@given(st.binary(max_size=200))
@example(b"\x9f" * 200)
def test_any_bytes_are_an_answer_or_no_answer(answer: bytes) -> None:
    read_by_all(answer)


def test_a_truncated_answer_is_no_answer() -> None:
    for answer in {answer for _, answer in recorded_exchanges() if len(answer) < 500}:
        for size in range(len(answer)):
            for reader in READERS.values():
                with pytest.raises(InvalidResponseError):
                    reader(answer[:size])


def test_a_changed_byte_lets_nothing_else_out() -> None:
    answers = [
        cbor2.dumps({"DescribeNSM": DESCRIPTION}),
        cbor2.dumps({"DescribePCR": {"lock": True, "data": VALUE}}),
        cbor2.dumps({"Error": "ReadOnlyIndex"}),
        cbor2.dumps("LockPCRs"),
    ]
    for answer in answers:
        for place in range(len(answer)):
            for byte in range(256):
                read_by_all(answer[:place] + bytes([byte]) + answer[place + 1 :])
