"""Signature: ES384 by the leaf over exactly these bytes; both of an ECDSA signature's two forms are genuine."""

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from tests.attestation.forge import DOCUMENT, GOOD, P384_ORDER, entropy, judge

from pinaivu_shared.errors import VerificationError
from pinaivu_simulator.cose import encode_payload
from pinaivu_simulator.pki import new_key

PAYLOAD = encode_payload(GOOD.fields())
ES384 = ec.ECDSA(hashes.SHA384())
GENUINE = GOOD.cose(PAYLOAD)[3]


def with_signature(signature: bytes) -> bytes:
    return cbor2.dumps([*GOOD.cose(PAYLOAD)[:3], signature])


def halves(r: int, s: int) -> bytes:
    return with_signature(r.to_bytes(48, "big") + s.to_bytes(48, "big"))


R, S = int.from_bytes(GENUINE[:48], "big"), int.from_bytes(GENUINE[48:], "big")
FORGED = {
    "12 DER cut to 96 bytes": with_signature(GOOD.leaf.key.sign(PAYLOAD, ES384)[:96]),
    "13 r zero": halves(0, S),
    "13 s zero": halves(R, 0),
    "13 both zero": halves(0, 0),
    "13 r = n": halves(P384_ORDER, S),
    "13 s = n": halves(R, P384_ORDER),
    "13 r all ones": halves(2**384 - 1, S),
    "13 s all ones": halves(R, 2**384 - 1),
    "13 r and s swapped": halves(S, R),
    "14 context Signature": cbor2.dumps(GOOD.cose(PAYLOAD, context="Signature")),
    "14 context CounterSignature": cbor2.dumps(GOOD.cose(PAYLOAD, context="CounterSignature")),
    "14 external_aad": cbor2.dumps(GOOD.cose(PAYLOAD, external=b"more")),
    "14 SHA-256": cbor2.dumps(GOOD.cose(PAYLOAD, digest=hashes.SHA256())),
    "14 over the payload alone": halves(*decode_dss_signature(GOOD.leaf.key.sign(PAYLOAD, ES384))),
    "15 by another key": cbor2.dumps(GOOD.cose(PAYLOAD, key=new_key(entropy))),
    "15 by the instance's key": cbor2.dumps(GOOD.cose(PAYLOAD, key=GOOD.chain[3].key)),
    "15 of another document": with_signature(GOOD.cose(encode_payload(GOOD.fields(nonce=b"other")))[3]),
}


@pytest.mark.parametrize("raw", FORGED.values(), ids=FORGED)
def test_a_wrong_signature_is_refused(raw: bytes) -> None:
    with pytest.raises(VerificationError) as refused:
        judge(raw)
    assert refused.value.check == "attestation signature"


def test_high_s_and_low_s_are_both_accepted() -> None:
    other = halves(R, P384_ORDER - S)
    assert {min(S, P384_ORDER - S), max(S, P384_ORDER - S)} == {S, P384_ORDER - S}
    assert judge(DOCUMENT).nonce == judge(other).nonce


def test_the_hash_of_a_document_names_a_copy_and_not_the_document() -> None:
    assert judge(DOCUMENT).sha256 != judge(halves(R, P384_ORDER - S)).sha256
