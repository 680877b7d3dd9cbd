"""A KMS envelope is read in one shape, and where it does not open it does not say why."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import example, given
from hypothesis import strategies as st

from pinaivu_enclave.kms.envelope import EnvelopeError, open_envelope, parse_envelope

from .envelopes import around, broken_envelopes, definite, in_one, in_parts, seal_envelope

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/nitro/aws-kms-cms-envelopes.json").read_bytes())
IN_PARTS = {name.removesuffix("_out"): bytes.fromhex(text) for name, text in VECTORS["constructed_octets"].items()}
IN_ONE = {name.removesuffix("_out_w_ctx"): bytes.fromhex(text) for name, text in VECTORS["primitive_octets"].items()}
REAL = [IN_PARTS["input_ber"], IN_ONE["input_ber_w_ctx"]]

KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
SECRET = b"the vault's secret: " + bytes(range(12))
WRITTEN = [seal_envelope(SECRET, KEY.public_key(), part_bytes=size) for size in (None, 48, 7)]
THE_ERROR = str(EnvelopeError())
BROKEN = broken_envelopes(SECRET, KEY.public_key(), OTHER.public_key())


def test_the_published_envelopes_give_their_published_fields() -> None:
    for raw, expected in zip(REAL, (IN_PARTS, IN_ONE), strict=True):
        envelope = parse_envelope(raw)
        assert envelope.encrypted_key == expected["encrypted_key"]
        assert envelope.iv == expected["iv"]
        assert envelope.ciphertext == expected["ciphertext"]


def test_our_own_writer_writes_the_published_envelopes() -> None:
    ours = around(
        IN_PARTS["encrypted_key"],
        in_parts(IN_PARTS["ciphertext"], 48),
        iv=IN_PARTS["iv"],
        key_identifier=REAL[0][33:65],
    )
    assert ours == REAL[0]
    ours = around(IN_ONE["encrypted_key"], in_one(IN_ONE["ciphertext"]), iv=IN_ONE["iv"], key_identifier=REAL[1][33:65])
    assert ours == REAL[1]


@pytest.mark.parametrize("part_bytes", [None, 1, 15, 16, 17, 47, 48, 127, 128, 255, 256, 4096])
def test_an_envelope_opens_in_both_forms_and_in_parts_of_any_size(part_bytes: int | None) -> None:
    for secret in (b"", b"x", SECRET, bytes(4095)):
        assert open_envelope(seal_envelope(secret, KEY.public_key(), part_bytes=part_bytes), KEY) == secret


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN.keys())
def test_what_was_not_encrypted_for_us_does_not_open(raw: bytes) -> None:
    refuse(raw)


CIPHERTEXT = bytes(32)
WRONG_CONTENTS = {
    "empty": in_one(b""),
    "no parts": bytes.fromhex("a0800000"),
    "empty part": bytes.fromhex("a080 0400") + definite(0x04, CIPHERTEXT) + bytes(2),
    "not a multiple of 16": in_one(bytes(31)),
    "more than 4112 bytes": in_one(bytes(4128)),
    "definite length in parts": definite(0xA0, definite(0x04, CIPHERTEXT)),
    "parts of another type": bytes.fromhex("a080") + definite(0x24, CIPHERTEXT) + bytes(2),
    "length not the shortest": bytes.fromhex("808120") + CIPHERTEXT,
    "length of two bytes, one would do": bytes.fromhex("8082 0080") + bytes(128),
    "length of three bytes": bytes.fromhex("8083 000020") + CIPHERTEXT,
    "length of 2^63": bytes.fromhex("8088 8000000000000000") + CIPHERTEXT,
    "indefinite length of a primitive": bytes.fromhex("8080") + CIPHERTEXT + bytes(2),
    "longer than what follows": bytes.fromhex("8040") + CIPHERTEXT,
    "missing": b"",
    "twice": in_one(CIPHERTEXT) * 2,
}


@pytest.mark.parametrize("content", WRONG_CONTENTS.values(), ids=WRONG_CONTENTS.keys())
def test_a_content_in_any_other_form_is_refused(content: bytes) -> None:
    refuse_to_read(around(bytes(256), content))


def test_other_sizes_of_key_key_identifier_and_iv_are_refused() -> None:
    for raw in (
        around(bytes(384), in_one(CIPHERTEXT)),
        around(bytes(256), in_one(CIPHERTEXT), key_identifier=bytes(20)),
        around(bytes(256), in_one(CIPHERTEXT), iv=bytes(12)),
    ):
        refuse_to_read(raw)


def test_any_byte_changed_outside_the_holes_is_refused() -> None:
    for raw in (*REAL, *WRITTEN):
        holes = {*range(33, 65), *range(131, 387), *range(415, 431)}
        content = set(range(431, len(raw)))
        for position in set(range(len(raw))) - holes - content:
            for change in (0x01, 0x80, 0xFF):
                refuse_to_read(raw[:position] + bytes([raw[position] ^ change]) + raw[position + 1 :])


def test_an_envelope_cut_or_extended_anywhere_is_refused() -> None:
    for raw in (*REAL, *WRITTEN):
        for size in range(len(raw)):
            refuse_to_read(raw[:size])
            refuse_to_read(raw[size:] if size else raw + b"\0")
        refuse_to_read(raw + raw)
        refuse_to_read(raw + bytes(2))
        refuse_to_read(raw + bytes(16_384))


@given(st.binary(max_size=600))
@example(b"")
def test_any_bytes_open_or_give_the_one_error(raw: bytes) -> None:
    refuse(raw)


@given(
    st.sampled_from([*REAL, *WRITTEN]),
    st.lists(st.tuples(st.integers(0, 520), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_any_change_of_a_good_envelope_opens_or_gives_the_one_error(raw: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(raw)
    for position, value in changes:
        changed[position % len(raw)] = value
    try:
        opened = open_envelope(bytes(changed), KEY)
    except EnvelopeError as error:
        assert_the_one(error)
    else:
        assert raw in WRITTEN
        assert len(opened) <= 48


def refuse(raw: bytes) -> None:
    with pytest.raises(EnvelopeError) as caught:
        open_envelope(raw, KEY)
    assert_the_one(caught.value)


def refuse_to_read(raw: bytes) -> None:
    with pytest.raises(EnvelopeError) as caught:
        parse_envelope(raw)
    assert_the_one(caught.value)
    refuse(raw)


def assert_the_one(error: EnvelopeError) -> None:
    """Neither text nor cause nor context tells one failure from another."""
    assert (type(error), str(error), error.peer, error.reason) == (EnvelopeError, THE_ERROR, "kms", "envelope")
    assert (error.__cause__, error.__context__) == (None, None)
