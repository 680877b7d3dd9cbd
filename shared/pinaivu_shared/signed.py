"""Signed bytes: what travels verbatim with its signature, and the two signature schemes (DESIGN section 5).

A signature covers `pinaivu/<kind>/v1` NUL payload, so that no signed thing can be taken for another kind.
The enclave signs with ECDSA P-256 / SHA-256, deterministic (RFC 6979) and low-s; nodes sign with Ed25519.
"""

import functools
import re
from typing import Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from pinaivu_shared.errors import VerificationError

Ed25519Kind = Literal["order", "statement", "fleet-grant"]
"""Orders are signed by the market's operator, statements by the settlement key, grants by a fleet key."""
NodeKind = Literal["registration", "quote", "acceptance", "proof"]
EnclaveKind = Literal["challenge", "registered", "quote-acknowledgement", "award", "node-report"]

P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SIGNATURE_TEXT: Final = re.compile(r"0x(?:[0-9a-f]{2}){8,72}")
_ECDSA: Final = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
_ED25519_SMALL_ORDER: Final = frozenset(
    bytes.fromhex(point)
    for point in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)


class Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Payload bytes and the signature over them. Nothing in it is verified yet."""

    payload: bytes
    signature: bytes


def message(kind: str, payload: bytes) -> bytes:
    """The bytes a signature of this kind covers."""
    return b"pinaivu/" + kind.encode() + b"/v1\0" + payload


def sign_as_node(kind: NodeKind, payload: bytes, key: Ed25519PrivateKey) -> Signed:
    """A node's signature: 64 bytes, Ed25519 (RFC 8032)."""
    return Signed(payload, key.sign(message(kind, payload)))


def verify_node(kind: NodeKind, signed: Signed, public_key: Ed25519PublicKey) -> bytes:
    """The payload, once its Ed25519 signature holds; VerificationError otherwise."""
    try:
        public_key.verify(signed.signature, message(kind, signed.payload))
    except InvalidSignature:
        raise VerificationError(f"{kind} signature", "does not verify under the node's key") from None
    return signed.payload


def sign_ed25519(kind: Ed25519Kind, payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signature alone, 64 bytes: for what is kept inside a leaf."""
    return key.sign(message(kind, payload))


def verify_ed25519(kind: Ed25519Kind, payload: bytes, signature: bytes, public_key: bytes) -> None:
    """Raise VerificationError unless the signature holds under this raw key."""
    try:
        load_node_key(public_key).verify(signature, message(kind, payload))
    except InvalidSignature:
        raise VerificationError(f"{kind} signature", "does not verify") from None


@functools.lru_cache(maxsize=4096)
def load_node_key(raw: bytes) -> Ed25519PublicKey:
    """A node's public key from its 32 raw bytes.

    Points of small order are refused: under them one signature fits every message.
    """
    masked = raw[:31] + bytes([raw[31] & 0x7F]) if len(raw) == 32 else b""
    if not masked or masked in _ED25519_SMALL_ORDER:
        raise VerificationError("node key", "not a 32-byte Ed25519 key of full order")
    return Ed25519PublicKey.from_public_bytes(raw)


def sign_as_enclave(kind: EnclaveKind, payload: bytes, key: ec.EllipticCurvePrivateKey) -> Signed:
    """The enclave's signature: DER, low-s."""
    return Signed(payload, sign_p256(message(kind, payload), key))


def verify_enclave(kind: EnclaveKind, signed: Signed, public_key: ec.EllipticCurvePublicKey) -> bytes:
    """The payload, once the enclave's signature holds; VerificationError otherwise."""
    verify_p256(signed.signature, message(kind, signed.payload), public_key, check=f"{kind} signature")
    return signed.payload


def sign_p256(content: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """DER ECDSA signature, RFC 6979 deterministic, with s in the lower half of the order."""
    r, s = decode_dss_signature(key.sign(content, _ECDSA))
    return encode_dss_signature(r, min(s, P256_ORDER - s))


def verify_p256(signature: bytes, content: bytes, public_key: ec.EllipticCurvePublicKey, *, check: str) -> None:
    """Raise VerificationError(check) unless this is the one accepted (strict DER, low-s) signature."""
    try:
        _, s = decode_dss_signature(signature)
    except ValueError:
        raise VerificationError(check, "not a DER signature") from None
    if s > P256_ORDER // 2:
        raise VerificationError(check, "high-s signature: s must be in the lower half of the order")
    try:
        public_key.verify(signature, content, _ECDSA)
    except InvalidSignature:
        raise VerificationError(check, "does not verify under the receipt key") from None


def load_receipt_key(spki: bytes) -> ec.EllipticCurvePublicKey:
    """The enclave's receipt key from its SubjectPublicKeyInfo in DER; anything but P-256 is refused."""
    try:
        key = load_der_public_key(spki)
    except (ValueError, TypeError) as error:
        raise VerificationError("receipt key", f"not a public key in DER: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise VerificationError("receipt key", "not a P-256 key")
    return key


def signature_text(signature: bytes) -> str:
    """`0x` + lowercase hex, as receipts carry it."""
    return "0x" + signature.hex()


def signature_bytes(text: str, *, check: str) -> bytes:
    """The bytes of a signature's text form, or VerificationError(check)."""
    if _SIGNATURE_TEXT.fullmatch(text) is None:
        raise VerificationError(check, "not 0x followed by lowercase hex of a DER signature")
    return bytes.fromhex(text[2:])
