"""The strict CBOR reader against cbor2, which has another author: what it reads has one spelling, and no tricks."""

from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinaivu_shared.attestation.cbor import decode, decode_map
from pinaivu_shared.errors import VerificationError

SCALARS = st.none() | st.integers(0, 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=80)
KEYS = st.integers(0, 2**64 - 1) | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=30) | st.dictionaries(KEYS, inner, max_size=30), max_leaves=40
).filter(lambda value: depth(value) <= 4)


def depth(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, children), default=0)


@given(VALUES)
@settings(max_examples=150, deadline=None)
def test_what_cbor2_writes_is_read(value: object) -> None:
    assert decode(cbor2.dumps(value)) == value


@given(st.binary(max_size=12))
@settings(max_examples=400, deadline=None)
def test_what_is_read_is_what_cbor2_writes(raw: bytes) -> None:
    try:
        value = decode(raw)
    except VerificationError:
        return
    assert cbor2.dumps(value) == raw


@pytest.mark.parametrize("rest", [b"", b"\0", b"\x61a", b"\xff", bytes(8), b"\x01" + bytes(7), b"a" * 23])
def test_every_initial_byte_is_read_as_cbor2_reads_it_or_refused(rest: bytes) -> None:
    for first in range(256):
        raw = bytes([first]) + rest
        try:
            value = decode(raw)
        except VerificationError:
            continue
        assert cbor2.dumps(value) == raw
        assert type(value) in {int, bytes, str, list, dict, type(None)}


@pytest.mark.parametrize("kind", [0x58, 0x59, 0x5A, 0x5B, 0x78, 0x7B, 0x98, 0x9B, 0xB8, 0xBB], ids="{:02x}".format)
def test_a_huge_length_costs_nothing(kind: int) -> None:
    with pytest.raises(VerificationError, match="ends too early"):
        decode(bytes([kind]) + b"\x78" * (1 << (kind & 3)))


def test_shared_references_cannot_multiply() -> None:
    """222 bytes that a general decoder turns into a value whose encoding has 2^25 items."""
    pairs = b"".join(b"\xd8\x1c\x82" + 2 * (b"\xd8\x1d" + cbor2.dumps(item)) for item in range(24))
    with pytest.raises(VerificationError, match="major type 6"):
        decode(b"\x98\x19\xd8\x1c\x81\x00" + pairs)


def test_only_the_outermost_map_may_be_indefinite() -> None:
    assert decode_map(b"\xbf\x01\x02\xff") == decode_map(b"\xa1\x01\x02") == {1: 2}
    for raw in (b"\xbf\x01\xbf\xff\xff", b"\xbf\x01\x9f\xff\xff", b"\x81\xbf\xff", b"\xbf\x01\xff", b"\xbf\x01\x02"):
        with pytest.raises(VerificationError):
            decode_map(raw)
    with pytest.raises(VerificationError):
        decode(b"\xbf\xff")
