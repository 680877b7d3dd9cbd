"""Attestation documents of the Nitro Secure Module: an untagged COSE_Sign1 around a CBOR map.

`parse_unverified` reads the form and believes nothing; `verify.py` alone makes an `AttestationDocument`.
Sources: AWS "Verifying the root of trust" (attestation_process.md), RFC 9052 4.2 and 4.4.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from types import MappingProxyType
from typing import Final, NoReturn, cast

from pinaivu_shared.attestation.cbor import CHECK, CborValue, decode, decode_map
from pinaivu_shared.errors import VerificationError

MAX_DOCUMENT_BYTES: Final = 16_384
MAX_OPTIONAL_BYTES: Final = 1024  # of public_key, user_data and nonce each
MAX_CERTIFICATE_BYTES: Final = 1024
MAX_CABUNDLE_CERTIFICATES: Final = 8
MAX_PCRS: Final = 32
MAX_TIMESTAMP_MS: Final = 1 << 47  # the year 6429; far beyond it calendars overflow
PCR_BYTES: Final = 48  # SHA-384
PROTECTED_ES384: Final = bytes.fromhex("a1013822")  # {1: -35}, the only header a document may have
SIGNATURE_BYTES: Final = 96  # r || s

_FIELDS: Final = frozenset(
    ("module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle", "public_key", "user_data", "nonce")
)
_VERIFIED: Final = object()


@dataclass(frozen=True, kw_only=True, slots=True)
class UnverifiedDocument:
    """A document of the right form. Nothing in it is a fact: anyone can write one."""

    raw: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)  # 96 bytes, r || s
    module_id: str
    timestamp_ms: int
    pcrs: Mapping[int, bytes]  # index 0..31 -> 48 bytes
    certificate: bytes = field(repr=False)  # DER of the leaf
    cabundle: tuple[bytes, ...] = field(repr=False)  # DER, root first
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None

    def signed_bytes(self) -> bytes:
        """What the signature covers: CBOR ["Signature1", protected, h'', payload] (RFC 9052 4.4)."""
        head = b"\x84\x6aSignature1" + b"\x44" + PROTECTED_ES384 + b"\x40"
        return head + _byte_string_head(len(self.payload)) + self.payload


@dataclass(frozen=True, kw_only=True, slots=True)
class AttestationDocument:
    """What the platform vouches for. Only `verify.py` makes one, so holding it means that everything held.

    `pcrs` has the locked registers only, 48 bytes each; absent optional fields are None, which differs from empty.
    ECDSA signatures can be changed into a second valid one, so `sha256` names a stored copy and detects no replay.
    """

    module_id: str
    timestamp_ms: int
    pcrs: Mapping[int, bytes]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    raw: bytes = field(repr=False)
    maker: InitVar[object]

    def __post_init__(self, maker: object) -> None:
        """Refuse to be made anywhere but in `seal`."""
        assert maker is _VERIFIED, "an attestation document comes from verify_live and its siblings only"

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the raw bytes."""
        return hashlib.sha256(self.raw).digest()


def seal(unverified: UnverifiedDocument) -> AttestationDocument:
    """Turn a parsed document into a verified one. For `verify.py` only, after every check."""
    return AttestationDocument(
        module_id=unverified.module_id,
        timestamp_ms=unverified.timestamp_ms,
        pcrs=unverified.pcrs,
        public_key=unverified.public_key,
        user_data=unverified.user_data,
        nonce=unverified.nonce,
        raw=unverified.raw,
        maker=_VERIFIED,
    )


def parse_unverified(raw: bytes) -> UnverifiedDocument:
    """Read a document's form: strict COSE and CBOR, exact fields, types and limits.

    Raises VerificationError("attestation document") for every other bytes.
    """
    if not 0 < len(raw) <= MAX_DOCUMENT_BYTES:
        _refuse(f"{len(raw)} bytes, 1 to {MAX_DOCUMENT_BYTES} are allowed")
    payload, signature = _open_cose(decode(raw))
    fields = decode_map(payload)
    if fields.keys() != _FIELDS:
        odd = sorted(str(name)[:40] for name in fields.keys() ^ _FIELDS)
        _refuse(f"payload does not have exactly the nine fields: {odd[:4]}")
    if fields["digest"] != "SHA384":
        _refuse("digest is not SHA384")
    return UnverifiedDocument(
        raw=raw,
        payload=payload,
        signature=signature,
        module_id=_module_id(fields["module_id"]),
        timestamp_ms=_timestamp(fields["timestamp"]),
        pcrs=_pcrs(fields["pcrs"]),
        certificate=_certificate(fields["certificate"]),
        cabundle=_cabundle(fields["cabundle"]),
        public_key=_optional("public_key", fields["public_key"], min_bytes=1),
        user_data=_optional("user_data", fields["user_data"]),
        nonce=_optional("nonce", fields["nonce"]),
    )


def _refuse(reason: str) -> NoReturn:
    raise VerificationError(CHECK, reason)


def _open_cose(cose: CborValue) -> tuple[bytes, bytes]:
    if not isinstance(cose, list) or len(cose) != 4:
        _refuse("not an untagged COSE_Sign1 of four elements")
    protected, unprotected, payload, signature = cose
    if protected != PROTECTED_ES384:
        _refuse("protected header is not {alg: ES384}")
    if unprotected != {}:
        _refuse("unprotected header is not empty")
    if not isinstance(payload, bytes):
        _refuse("payload is not a byte string")
    if not isinstance(signature, bytes) or len(signature) != SIGNATURE_BYTES:
        _refuse(f"signature is not {SIGNATURE_BYTES} bytes")
    return payload, signature


def _module_id(value: CborValue) -> str:
    if not isinstance(value, str) or not value:
        _refuse("module_id is not a text, or empty")
    return value


def _timestamp(value: CborValue) -> int:
    if not isinstance(value, int) or not 0 < value < MAX_TIMESTAMP_MS:
        _refuse("timestamp is not a positive number of milliseconds")
    return value


def _pcrs(value: CborValue) -> Mapping[int, bytes]:
    if not isinstance(value, dict) or not 0 < len(value) <= MAX_PCRS:
        _refuse(f"pcrs is not a map of 1 to {MAX_PCRS} entries")
    for index, digest in value.items():
        if not isinstance(index, int) or index >= MAX_PCRS:
            _refuse(f"PCR index {str(index)[:40]!r} is not one of 0..{MAX_PCRS - 1}")
        if not isinstance(digest, bytes) or len(digest) != PCR_BYTES:
            _refuse(f"PCR{index} is not {PCR_BYTES} bytes")
    missing = {0, 1, 2} - value.keys()
    if missing:
        _refuse(f"PCR{min(missing)} is missing")
    return MappingProxyType(cast("dict[int, bytes]", value))


def _certificate(value: CborValue) -> bytes:
    if not isinstance(value, bytes) or not 0 < len(value) <= MAX_CERTIFICATE_BYTES:
        _refuse(f"a certificate is not 1 to {MAX_CERTIFICATE_BYTES} bytes")
    return value


def _cabundle(value: CborValue) -> tuple[bytes, ...]:
    # Leaves are issued by instance certificates, so a root alone has never issued one.
    if not isinstance(value, list) or not 2 <= len(value) <= MAX_CABUNDLE_CERTIFICATES:
        _refuse(f"cabundle is not an array of 2 to {MAX_CABUNDLE_CERTIFICATES} certificates")
    return tuple(_certificate(item) for item in value)


def _optional(name: str, value: CborValue, *, min_bytes: int = 0) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, bytes) or not min_bytes <= len(value) <= MAX_OPTIONAL_BYTES:
        _refuse(f"{name} is neither null nor {min_bytes} to {MAX_OPTIONAL_BYTES} bytes")
    return value


def _byte_string_head(size: int) -> bytes:
    """Head of a CBOR byte string of `size` bytes, shortest form; documents are below 2^16 bytes."""
    if size < 24:
        return bytes([0x40 | size])
    if size < 1 << 8:
        return bytes([0x58, size])
    return b"\x59" + size.to_bytes(2, "big")
