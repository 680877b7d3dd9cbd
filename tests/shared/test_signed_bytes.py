"""Signatures, canonical bytes, money and ids: one spelling each, and every other one refused."""

import hashlib

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_shared import leaves, manifest, receipt, second_score, terms
from pinaivu_shared.canonical import CanonicalStruct, Natural, Text, decode, encode
from pinaivu_shared.errors import PeerError, VerificationError
from pinaivu_shared.framing import FrameReader, frame
from pinaivu_shared.ids import make_request_id, node_id_of, request_time_ms
from pinaivu_shared.money import amount_owed, decimal_usdc, format_usdc, parse_usdc
from pinaivu_shared.signed import (
    P256_ORDER,
    Signed,
    load_node_key,
    sign_as_node,
    sign_p256,
    signature_bytes,
    signature_text,
    verify_node,
    verify_p256,
)

RFC_6979_S = 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8
KEY = ec.derive_private_key(0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721, ec.SECP256R1())
NODE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


class Sample(CanonicalStruct, frozen=True):
    """A small signed thing."""

    name: Text
    size: Natural


GOOD = encode(Sample(name="a", size=1))


def test_ecdsa_is_the_deterministic_signature_of_rfc_6979_in_low_s() -> None:
    """RFC 6979 A.2.5, P-256 with SHA-256, message "sample"; its s is in the upper half, ours is n - s."""
    r, s = decode_dss_signature(sign_p256(b"sample", KEY))
    assert r == 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
    assert s in {RFC_6979_S, P256_ORDER - RFC_6979_S}
    assert s <= P256_ORDER // 2


@given(st.binary(max_size=64))
def test_every_signature_is_low_s_and_its_twin_is_refused(content: bytes) -> None:
    signature = sign_p256(content, KEY)
    verify_p256(signature, content, KEY.public_key(), check="x")
    r, s = decode_dss_signature(signature)
    with pytest.raises(VerificationError, match="high-s"):
        verify_p256(encode_dss_signature(r, P256_ORDER - s), content, KEY.public_key(), check="x")


@given(st.integers(0, 70), st.integers(0, 255))
def test_any_changed_byte_of_a_signature_is_refused(place: int, value: int) -> None:
    signature = bytearray(sign_p256(b"content", KEY))
    place %= len(signature)
    if signature[place] != value:
        signature[place] = value
        with pytest.raises(VerificationError):
            verify_p256(bytes(signature), b"content", KEY.public_key(), check="x")


@pytest.mark.parametrize("text", ["", "0x", "30", "0X30", "0x3", "0x30 ", "0xAB" * 20, "0x" + "ab" * 100, "0x٣"])
def test_only_one_text_form_of_a_signature_is_read(text: str) -> None:
    with pytest.raises(VerificationError):
        signature_bytes(text, check="x")


def test_the_text_form_comes_back() -> None:
    assert signature_bytes(signature_text(b"\x30" * 70), check="x") == b"\x30" * 70


def test_a_signature_of_one_kind_is_none_of_another() -> None:
    signed = sign_as_node("quote", b"payload", NODE)
    with pytest.raises(VerificationError, match="proof signature"):
        verify_node("proof", signed, NODE.public_key())


@pytest.mark.parametrize("altered", [Signed(b"payloaf", b""), Signed(b"payload", bytes(64)), Signed(b"", b"x")])
def test_an_altered_signed_thing_is_refused(altered: Signed) -> None:
    with pytest.raises(VerificationError):
        verify_node("quote", altered, NODE.public_key())


@pytest.mark.parametrize("raw", [b"", bytes(32), b"\x01" + bytes(31), b"\x01" + bytes(30) + b"\x80", bytes(33)])
def test_a_node_key_of_small_order_or_other_length_is_refused(raw: bytes) -> None:
    with pytest.raises(VerificationError, match="node key"):
        load_node_key(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"size":1,"name":"a"}',
        b'{"name":"a","size":1} ',
        b'{"name":"a", "size":1}',
        b'{"name":"a","size":1,"size":1}',
        b'{"name":"\\u0061","size":1}',
        b'{"name":"a","size":1.0}',
        b'{"name":"a","size":true}',
        b'{"name":"a","size":-1}',
        b'{"name":"a","size":9007199254740992}',
        b'{"name":"a","size":1,"x":1}',
        b'{"name":"a"}',
        b'{"name":null,"size":1}',
        b'{"name":"\xc3\xa9","size":1}',
        b'{"name":"\xff","size":1}',
        b'{"name":"\\n","size":1}',
        b"",
        b"[" * 9000,
    ],
)
def test_every_other_spelling_of_a_signed_value_is_refused(raw: bytes) -> None:
    with pytest.raises(VerificationError, match="sample"):
        decode(raw, Sample, check="sample")


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_changed_bytes_give_another_value_or_one_kind_of_error(place: int, byte: int) -> None:
    changed = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    try:
        value = decode(changed, Sample, check="sample")
    except VerificationError:
        return
    assert encode(value) == changed


def test_signed_structs_hold_nothing_that_has_two_spellings() -> None:
    """No float, None, plain str or plain int in any field of a signed struct."""
    for module in (terms, receipt, manifest, leaves, second_score):
        for struct in vars(module).values():
            if isinstance(struct, type) and issubclass(struct, CanonicalStruct):
                for field in msgspec.structs.fields(struct):
                    assert field.type not in {float, int, dict, list}, (struct, field.name)
                    assert field.type is not str or field.name == "coordinator_signature", (struct, field.name)


@given(st.integers(0, 2**40), st.integers(0, 2**20), st.integers(0, 2**40), st.integers(0, 2**20))
def test_an_amount_is_rounded_up_by_less_than_one(p_in: int, t_in: int, p_out: int, t_out: int) -> None:
    owed = amount_owed(input_price=p_in, prompt_tokens=t_in, output_price=p_out, completion_tokens=t_out)
    assert 0 <= owed * 1_000_000 - (p_in * t_in + p_out * t_out) < 1_000_000


@given(st.integers(0, 10**15))
def test_an_amount_survives_its_text(amount: int) -> None:
    assert parse_usdc(format_usdc(amount)) == amount


def test_an_amount_that_is_owed_is_the_same_text_with_a_sign() -> None:
    assert [decimal_usdc(amount) for amount in (-1, 0, 1, -1_500_000)] == [
        "-0.000001", "0.000000", "0.000001", "-1.500000",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "-1", "1.", ".5", "1.1234567", "1e3", "01", "1,5", "٣", "1 USD", " 1"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="amount"):
        parse_usdc(text)


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_a_request_id_holds_its_time(time_ms: int, entropy: bytes) -> None:
    request_id = make_request_id(time_ms, entropy)
    assert len(request_id) == 30
    assert request_time_ms(request_id) == time_ms


def test_a_node_id_is_half_the_hash_of_its_key() -> None:
    assert node_id_of(b"key") == "node_" + hashlib.sha256(b"key").hexdigest()[:32]


@given(st.lists(st.binary(max_size=50)), st.integers(1, 17))
def test_frames_come_out_as_they_went_in_however_they_are_cut(payloads: list[bytes], step: int) -> None:
    stream = b"".join(frame(payload, max_bytes=64) for payload in payloads)
    reader = FrameReader("peer", max_bytes=64)
    found = [one for start in range(0, len(stream), step) for one in reader.feed(stream[start : start + step])]
    assert found == payloads


def test_a_frame_of_two_gibibytes_is_refused_at_its_length() -> None:
    with pytest.raises(PeerError, match="2147483648"):
        FrameReader("host", max_bytes=1 << 20).feed((2**31).to_bytes(4))
