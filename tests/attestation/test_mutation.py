"""Mutations: whatever bytes come, the verifier gives a document or exactly VerificationError, and no forgery passes."""

import contextlib

import cbor2
import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attestation.forge import DOCUMENT, GOOD, judge

from pinaivu_shared.attestation.document import AttestationDocument, parse_unverified
from pinaivu_shared.errors import VerificationError
from pinaivu_simulator.cose import ES384_HEADER, encode_payload

PAYLOAD = encode_payload(GOOD.fields())

Edits = list[tuple[int, bytes, int]]
EDITS = st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(max_size=4), st.integers(0, 4)), min_size=1, max_size=3)
"""At a place, new bytes instead of 0 to 4 old ones."""


def edited(good: bytes, edits: Edits) -> bytes:
    for place, new, old in edits:
        start = place % (len(good) + 1)
        good = good[:start] + new + good[start + old :]
    return good


def refused(raw: bytes) -> bool:
    try:
        judge(raw)
    except VerificationError:
        return True
    return False


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_bytes_out_of_the_air_are_accepted(raw: bytes) -> None:
    assert refused(raw)


@given(EDITS)
@settings(max_examples=300, deadline=None)
def test_a_changed_document_is_refused(edits: Edits) -> None:
    raw = edited(DOCUMENT, edits)
    assert raw == DOCUMENT or refused(raw)


@pytest.mark.parametrize("bit", [0, 7])
def test_a_document_with_one_bit_flipped_is_refused(bit: int) -> None:
    for place in range(0, len(DOCUMENT), 3):
        raw = bytearray(DOCUMENT)
        raw[place] ^= 1 << bit
        assert refused(bytes(raw)), place


@given(EDITS)
@settings(max_examples=300, deadline=None)
def test_a_changed_payload_signed_again_gives_what_it_says_or_is_refused(edits: Edits) -> None:
    """The attacker here has the leaf's key, so changes of contents pass; changes of form and chain must not."""
    payload = edited(PAYLOAD, edits)
    with contextlib.suppress(VerificationError):
        document = judge(GOOD.signed(payload))
        assert isinstance(document, AttestationDocument)
        assert encode_payload(parse_fields(document)) == payload


def parse_fields(document: AttestationDocument) -> dict[str, object]:
    read = parse_unverified(document.raw)
    assert read.certificate == GOOD.leaf.der
    return GOOD.fields(
        module_id=document.module_id,
        timestamp=document.timestamp_ms,
        pcrs=dict(document.pcrs),
        public_key=document.public_key,
        user_data=document.user_data,
        nonce=document.nonce,
    )


@given(st.integers(1, 4), EDITS)
@settings(max_examples=300, deadline=None)
def test_a_changed_certificate_is_refused_though_the_document_is_signed_again(level: int, edits: Edits) -> None:
    """No parser error of X.509 escapes either.

    Only the issuer's signature has other spellings that hold: s negated, or bits of its BIT STRING called unused.
    """
    chain = [authority.der for authority in GOOD.chain]
    chain[level] = edited(chain[level], edits)
    raw = GOOD.document(cabundle=chain[:-1], certificate=chain[-1])
    assert refused(raw) or signed_part(chain[level]) == signed_part(GOOD.chain[level].der)


def signed_part(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).tbs_certificate_bytes


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers() | st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(sorted(GOOD.fields())), VALUES)
@settings(max_examples=200, deadline=None)
def test_any_value_in_any_field_gives_a_document_or_a_refusal(name: str, value: object) -> None:
    with contextlib.suppress(VerificationError):
        judge(GOOD.document(**{name: value}))


@given(st.lists(VALUES, min_size=4, max_size=4), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_any_value_in_any_element_is_refused(values: list[object], place: int) -> None:
    good = [ES384_HEADER, {}, PAYLOAD, GOOD.cose(PAYLOAD)[3]]
    good[place] = values[place]
    assert refused(cbor2.dumps(good)) or good[place] == {}
