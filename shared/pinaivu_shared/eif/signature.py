"""The signature section of an image: who vouches for its PCR0, by a certificate that PCR8 measures.

CBOR `[{"signing_certificate": [u8…], "signature": [u8…]}]`, both values arrays of small integers. The certificate is
the text of a PEM file; the signature is an untagged COSE_Sign1 (RFC 9052 4.2) whose payload is CBOR
`{"register_index": 0, "register_value": [u8…]}`. Only PCR0 is signed, so it says nothing about the boundaries
between ramdisks; the platform refuses to boot an image whose certificate has expired (nitro-cli's error E36).

Sources: aws-nitro-enclaves-image-format, src/defs/mod.rs and src/utils/eif_signer.rs; QEMU hw/core/eif.c.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from pinaivu_shared.attestation.cbor import CborValue, decode
from pinaivu_shared.attestation.policy import IMAGE_PCRS
from pinaivu_shared.eif.errors import EifError
from pinaivu_shared.errors import CallerError, VerificationError

PART: Final = "signature section"
CHECK: Final = "image signature"
MAX_SIGNATURE_BYTES: Final = 1 << 16
_KEYS: Final = ["signing_certificate", "signature"]
"""In this order: QEMU wants the certificate first."""


@dataclass(frozen=True, slots=True)
class _Algorithm:
    protected: bytes
    """The protected header `{1: algorithm}`, the only one a signature may have (RFC 9053 2.1)."""
    digest: hashes.HashAlgorithm
    half_bytes: int
    """Size of r and of s."""


_ALGORITHMS: Final[dict[str, _Algorithm]] = {
    "secp256r1": _Algorithm(bytes.fromhex("a10126"), hashes.SHA256(), 32),  # {1: -7}
    "secp384r1": _Algorithm(bytes.fromhex("a1013822"), hashes.SHA384(), 48),  # {1: -35}
    "secp521r1": _Algorithm(bytes.fromhex("a1013823"), hashes.SHA512(), 66),  # {1: -36}
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSignature:
    """A signature section of the right form; whether the signature holds is for `verify_signature`."""

    certificate: x509.Certificate
    certificate_der: bytes = field(repr=False)
    protected: bytes
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse_signature(section: bytes) -> ImageSignature:
    """Read a signature section. Raises EifError("signature section") for every other bytes."""
    entries = _decode(section)
    if not isinstance(entries, list) or len(entries) != 1:
        _refuse("is not an array with the signature of one register")
    entry = entries[0]
    if not isinstance(entry, dict) or list(entry) != _KEYS:
        _refuse("is not a map of signing_certificate and signature, in this order")
    certificate, der = _certificate(_octets(entry["signing_certificate"]))
    cose = _decode(_octets(entry["signature"]))
    if not isinstance(cose, list) or len(cose) != 4:
        _refuse("signature is not an untagged COSE_Sign1 of four elements")
    protected, unprotected, payload, signature = cose
    if unprotected != {} or not isinstance(protected, bytes):
        _refuse("the signature's headers are not a byte string and an empty map")
    if not isinstance(payload, bytes) or not isinstance(signature, bytes):
        _refuse("the signature's payload or value is not a byte string")
    return ImageSignature(
        certificate=certificate, certificate_der=der, protected=protected, payload=payload, signature=signature
    )


def verify_signature(signature: ImageSignature, pcr0: bytes) -> None:
    """The certificate's key signed exactly this PCR0, or VerificationError("image signature").

    Nothing is said about the certificate itself: whose it is must be known by PCR8.
    """
    key = _public_key(signature.certificate)
    algorithm = _ALGORITHMS.get(key.curve.name) if isinstance(key, ec.EllipticCurvePublicKey) else None
    if algorithm is None or not isinstance(key, ec.EllipticCurvePublicKey):
        raise VerificationError(CHECK, "the certificate's key is not on P-256, P-384 or P-521")
    if signature.protected != algorithm.protected:
        raise VerificationError(CHECK, f"header {signature.protected[:16].hex()} is not that of the certificate's key")
    if signature.payload != _payload(pcr0):
        raise VerificationError(CHECK, "another image was signed: the payload is not this image's PCR0")
    if len(signature.signature) != 2 * algorithm.half_bytes:
        raise VerificationError(
            CHECK, f"{len(signature.signature)} bytes are no r and s of {algorithm.half_bytes} each"
        )
    r, s = (
        int.from_bytes(half, "big")
        for half in (signature.signature[: algorithm.half_bytes], signature.signature[algorithm.half_bytes :])
    )
    signed = _signed_bytes(algorithm, signature.payload)
    try:
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(algorithm.digest))
    except InvalidSignature:
        raise VerificationError(CHECK, "the signature was not made by the certificate's key") from None


def make_signature(pcr0: bytes, *, key: ec.EllipticCurvePrivateKey, certificate_pem: bytes) -> bytes:
    """The signature section for an image with this PCR0; the same bytes every time (RFC 6979).

    Raises CallerError for a key on another curve, a key of another certificate, and for no certificate.
    """
    algorithm = _ALGORITHMS.get(key.curve.name)
    if algorithm is None:
        raise CallerError(f"the key is on {key.curve.name}; images are signed with P-256, P-384 or P-521")
    try:
        belongs = _public_key(_certificate(certificate_pem)[0]) == key.public_key()
    except EifError as error:
        raise CallerError(f"signing certificate: {error.detail}") from error
    if not belongs:
        raise CallerError("the signing certificate belongs to another key than the one given")
    payload = _payload(pcr0)
    scheme = ec.ECDSA(algorithm.digest, deterministic_signing=True)
    r, s = decode_dss_signature(key.sign(_signed_bytes(algorithm, payload), scheme))
    value = r.to_bytes(algorithm.half_bytes, "big") + s.to_bytes(algorithm.half_bytes, "big")
    cose = cbor2.dumps([algorithm.protected, {}, payload, value])
    return cbor2.dumps([dict(zip(_KEYS, (list(certificate_pem), list(cose)), strict=True))])


def _payload(pcr0: bytes) -> bytes:
    return cbor2.dumps({"register_index": IMAGE_PCRS[0], "register_value": list(pcr0)})


def _signed_bytes(algorithm: _Algorithm, payload: bytes) -> bytes:
    return cbor2.dumps(["Signature1", algorithm.protected, b"", payload])


def _certificate(pem: bytes) -> tuple[x509.Certificate, bytes]:
    """The certificate and its DER. One PEM block: of several, readers might measure different ones."""
    if pem.count(b"-----BEGIN") != 1:
        _refuse("the certificate is not one block of PEM")
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        return certificate, certificate.public_bytes(Encoding.DER)
    except Exception as error:  # border: pyca raises ValueError, InvalidVersion and its own warnings here
        raise EifError(PART, f"the certificate cannot be read: {error}") from error


def _public_key(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except Exception as error:  # border: as above
        raise EifError(PART, f"the certificate's key cannot be read: {error}") from error


def _decode(raw: bytes) -> CborValue:
    if len(raw) > MAX_SIGNATURE_BYTES:
        _refuse(f"has {len(raw)} bytes, at most {MAX_SIGNATURE_BYTES} are read")
    try:
        return decode(raw)
    except VerificationError as error:
        raise EifError(PART, error.detail) from error


def _octets(value: CborValue) -> bytes:
    if not isinstance(value, list) or not all(isinstance(octet, int) and octet < 256 for octet in value):
        _refuse("a value is not an array of small integers")
    numbers: Sequence[int] = [octet for octet in value if isinstance(octet, int)]
    return bytes(numbers)


def _refuse(reason: str) -> NoReturn:
    raise EifError(PART, reason)
