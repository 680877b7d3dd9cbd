"""Attestation documents as Nitro writes them: CBOR map inside COSE_Sign1, ES384 (RFC 9052 4.2)."""

from collections.abc import Mapping
from typing import Literal

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ES384_HEADER = bytes.fromhex("a1013822")

PayloadForm = Literal["indefinite", "definite"]
"""How the payload's outermost map is written: `bf … ff` since mid-2025, `a9` before."""


def encode_payload(fields: Mapping[str, object], form: PayloadForm = "indefinite") -> bytes:
    """The payload's CBOR, keys in the order given; only the outermost map's length depends on `form`."""
    definite = cbor2.dumps(dict(fields))
    if form == "definite":
        return definite
    assert len(fields) < 24, "the map's head is one byte"
    return b"\xbf" + definite[1:] + b"\xff"


def sign1(payload: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """An untagged COSE_Sign1 over the payload, header and signature as Nitro's; deterministic (RFC 6979)."""
    return cbor2.dumps([ES384_HEADER, {}, payload, signature_over(payload, key)])


def signature_over(payload: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Signature r || s, 48 bytes each, over ["Signature1", protected, h'', payload] (RFC 9052 4.4)."""
    signed = cbor2.dumps(["Signature1", ES384_HEADER, b"", payload])
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA384(), deterministic_signing=True)))
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")
