"""Verification of attestation documents: bytes in, an `AttestationDocument` or exactly VerificationError out.

1. form            strict COSE and CBOR, exact fields, limits          "attestation document"
2. certificates    first one is the root, all P-384 with SHA-384       "attestation chain"
3. path            valid at the judged time, exactly the one shown     "attestation chain"
4. timestamp       inside the leaf's validity                          "attestation chain"
5. signature       ES384 by the leaf; high-s is as good as low-s       "attestation signature"
6. freshness       live and recent only: age, then the asker's nonce   "attestation freshness", "attestation nonce"
7. measurements    the policy, which has no default                    "PCR0", "PCR1", …

The four entry points differ in the time at which they judge. What they return is still to be bound to a key, a
manifest and a configuration: `binding.py`. Nothing read before step 5 is shown as a fact, except in errors, which
show what made the document fall.
"""

import datetime as dt
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from pinaivu_shared.attestation import chain
from pinaivu_shared.attestation.binding import require_nonce
from pinaivu_shared.attestation.document import (
    MAX_TIMESTAMP_MS,
    AttestationDocument,
    UnverifiedDocument,
    parse_unverified,
    seal,
)
from pinaivu_shared.attestation.policy import MeasurementPolicy
from pinaivu_shared.errors import VerificationError

MAX_AGE_MS: Final = 300_000
MAX_SKEW_MS: Final = 60_000  # a fresh leaf is not backdated, so a judge whose clock is slow would refuse it

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_P384_SHA384: Final = ec.ECDSA(hashes.SHA384())


def verify_live(  # noqa: PLR0913  evidence, what it is judged by, and when; a bundle of them would hide one
    raw: bytes,
    *,
    root: x509.Certificate,
    policy: MeasurementPolicy,
    nonce: bytes,
    now_ms: int,
    max_age_ms: int = MAX_AGE_MS,
) -> AttestationDocument:
    """Judge a document now that answers a nonce we chose; so it was made for us and after we asked.

    `now_ms` is Unix time in milliseconds; a clock up to 60 s slow is allowed for. Raises VerificationError.
    """
    document = _judge_now(raw, root=root, now_ms=now_ms, max_age_ms=max_age_ms)
    require_nonce(document, nonce)
    policy.require(document.pcrs)
    return document


def verify_recent(
    raw: bytes,
    *,
    root: x509.Certificate,
    policy: MeasurementPolicy,
    now_ms: int,
    max_age_ms: int = MAX_AGE_MS,
) -> AttestationDocument:
    """Judge a document now by its age alone, as KMS does: whoever saw it can show it again until it is too old.

    Raises VerificationError.
    """
    document = _judge_now(raw, root=root, now_ms=now_ms, max_age_ms=max_age_ms)
    policy.require(document.pcrs)
    return document


def verify_archived(raw: bytes, *, root: x509.Certificate, policy: MeasurementPolicy) -> AttestationDocument:
    """Judge a document of any age at its own timestamp, which is safe because the signature covers it.

    It proves that the enclave ran at `timestamp_ms`, not that it still runs. Raises VerificationError.
    """
    unverified = parse_unverified(raw)
    document = _judge(unverified, chain.read_path(unverified, root=root), at=_moment(unverified.timestamp_ms))
    policy.require(document.pcrs)
    return document


def verify_archived_at(
    raw: bytes, *, root: x509.Certificate, policy: MeasurementPolicy, at_ms: int
) -> AttestationDocument:
    """Judge an archived document for someone who says at which time (Unix, milliseconds) it was valid.

    The chain must hold at that time and at the document's own, so both lie inside the leaf's three hours. Which of
    the two comes first does not matter: times that people write are rounded. Raises VerificationError.
    """
    unverified = parse_unverified(raw)
    path = chain.read_path(unverified, root=root)
    chain.validate_path(path, at=_moment(at_ms))
    document = _judge(unverified, path, at=_moment(unverified.timestamp_ms))
    policy.require(document.pcrs)
    return document


def _judge_now(raw: bytes, *, root: x509.Certificate, now_ms: int, max_age_ms: int) -> AttestationDocument:
    unverified = parse_unverified(raw)
    path = chain.read_path(unverified, root=root)
    document = _judge(unverified, path, at=_allow_for_skew(path, _moment(now_ms)))
    age_ms = now_ms - document.timestamp_ms
    if age_ms > max_age_ms:
        raise VerificationError("attestation freshness", f"{age_ms} ms old, at most {max_age_ms} are allowed")
    if age_ms < -MAX_SKEW_MS:
        raise VerificationError("attestation freshness", f"made {-age_ms} ms in the future: check your clock")
    return document


def _allow_for_skew(path: chain.UnverifiedPath, now: dt.datetime) -> dt.datetime:
    """Now, or the start of the youngest certificate if that is less than the allowed skew ahead."""
    if now >= path.latest_start:
        return now
    if path.latest_start - now > dt.timedelta(milliseconds=MAX_SKEW_MS):
        detail = f"a certificate is valid from {path.latest_start}, and now is {now}: check your clock"
        raise VerificationError(chain.CHECK, detail)
    return path.latest_start


def _judge(unverified: UnverifiedDocument, path: chain.UnverifiedPath, *, at: dt.datetime) -> AttestationDocument:
    """Steps 3 to 5, after which what the document says are facts."""
    chain.validate_path(path, at=at)
    made = _moment(unverified.timestamp_ms).replace(microsecond=0)
    if not path.leaf.not_valid_before_utc <= made <= path.leaf.not_valid_after_utc:
        raise VerificationError(chain.CHECK, f"the document's timestamp {made} is outside the leaf's validity")
    _require_signature(unverified, path.leaf)
    return seal(unverified)


def _require_signature(unverified: UnverifiedDocument, leaf: x509.Certificate) -> None:
    r, s = (int.from_bytes(half, "big") for half in (unverified.signature[:48], unverified.signature[48:]))
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # read_path let P-384 through only
    try:
        key.verify(encode_dss_signature(r, s), unverified.signed_bytes(), _P384_SHA384)
    except InvalidSignature:
        raise VerificationError("attestation signature", "not made by the leaf's key over this payload") from None


def _moment(unix_ms: int) -> dt.datetime:
    """UTC; times that no calendar has fall on its ends, where nothing is valid."""
    return _EPOCH + dt.timedelta(milliseconds=min(max(unix_ms, 0), MAX_TIMESTAMP_MS))
