"""`Recipient` of a KMS request: for whom the answer is to be encrypted, and what vouches for it (nitro.md D.1)."""

import logging
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from pinaivu_shared.attestation.policy import WrongMeasurementError
from pinaivu_shared.attestation.verify import MAX_AGE_MS
from pinaivu_shared.errors import VerificationError
from pinaivu_simulator.kms.fault import KmsFault
from pinaivu_simulator.kms.judge import Attested, Judge

RSA_BITS: Final = 2048
RSA_EXPONENT: Final = 65_537

logger = logging.getLogger(__name__)


class Recipient(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """As it stands in the request; the document is base64 there."""

    attestation_document: Annotated[bytes, msgspec.Meta(min_length=1, max_length=262_144)]
    key_encryption_algorithm: Literal["RSAES_OAEP_SHA_256"]


@dataclass(frozen=True, kw_only=True)
class AttestedRecipient:
    """A recipient whose document held; only `judge_recipient` makes one. Whether it may is the key policy's to say."""

    attested: Attested
    key: rsa.RSAPublicKey


def judge_recipient(recipient: Recipient, judge: Judge, *, now_ms: int) -> AttestedRecipient:
    """Believe a document or refuse it with KmsFault("ValidationException").

    WrongMeasurementError goes on to the key policy's side: the document holds, its image is not one that is let in.
    CallerError is the judge's, where the key policy is none to judge by.
    """
    try:
        attested = judge(recipient.attestation_document, now_ms)
    except WrongMeasurementError:
        raise
    except VerificationError as error:
        logger.warning("attestation document refused", extra={"kv": {"check": error.check, "detail": error.detail}})
        raise _refusal(f"The attestation document does not hold: {error.check}") from error
    if now_ms - attested.timestamp_ms > MAX_AGE_MS:
        raise _refusal("The attestation document is too old")
    return AttestedRecipient(attested=attested, key=_recipient_key(attested.public_key))


def _recipient_key(der: bytes | None) -> rsa.RSAPublicKey:
    if der is None:
        raise _refusal("The attestation document names no public key")
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _refusal("The attestation document's public key is not a SubjectPublicKeyInfo in DER") from error
    if (
        not isinstance(key, rsa.RSAPublicKey)
        or key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != der
    ):
        raise _refusal("The attestation document's public key is not an RSA key in DER")
    if key.key_size != RSA_BITS or key.public_numbers().e != RSA_EXPONENT:
        raise _refusal(f"The attestation document's public key is not RSA-{RSA_BITS} with exponent {RSA_EXPONENT}")
    return key


def _refusal(message: str) -> KmsFault:
    return KmsFault("ValidationException", message)
