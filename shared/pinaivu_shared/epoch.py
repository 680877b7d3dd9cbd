"""One epoch of the enclave: attestation document, key manifest and configuration, bound to each other.

The document carries the receipt key and SHA-256 of the manifest; the manifest carries the configuration's digest and
the public keys; PCR16 carries the configuration. So whoever believes the document believes all three.
"""

import msgspec

from pinaivu_shared.attestation.binding import require_configuration, require_public_key, require_user_data
from pinaivu_shared.attestation.document import AttestationDocument
from pinaivu_shared.attestation.verify import verify_archived, verify_live
from pinaivu_shared.canonical import decode
from pinaivu_shared.configuration import Configuration, parse_configuration
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.log.keys import Algorithm, VerifierKey
from pinaivu_shared.manifest import KeyManifest
from pinaivu_shared.trust import TrustFile


class VerifiedEpoch(msgspec.Struct, frozen=True):
    """An epoch whose document was judged and whose parts fit together. Made by the two functions below only."""

    document: AttestationDocument
    manifest: KeyManifest
    configuration: Configuration


def verify_epoch_live(  # noqa: PLR0913 - each is evidence or a policy, and none has a default
    document: bytes, manifest: bytes, configuration: bytes, *, trust: TrustFile, nonce: bytes, now_ms: int
) -> VerifiedEpoch:
    """Judge a fresh document: made for this nonce, now. For a node or client that talks to the enclave."""
    judged = verify_live(document, root=trust.root, policy=trust.policy, nonce=nonce, now_ms=now_ms)
    return _bind(judged, manifest, configuration, trust)


def verify_epoch_archived(document: bytes, manifest: bytes, configuration: bytes, *, trust: TrustFile) -> VerifiedEpoch:
    """Judge a stored document at the time it was made. For receipts, whose epoch may be long over."""
    judged = verify_archived(document, root=trust.root, policy=trust.policy)
    return _bind(judged, manifest, configuration, trust)


def _bind(document: AttestationDocument, manifest: bytes, configuration: bytes, trust: TrustFile) -> VerifiedEpoch:
    keys = decode(manifest, KeyManifest, check="manifest")
    require_user_data(document, keys.user_data())
    require_public_key(document, bytes.fromhex(keys.receipt_key))
    parsed = parse_configuration(configuration)
    if keys.configuration != digest_of(configuration):
        raise VerificationError("configuration", "is not the one that the manifest names")
    require_configuration(document, configuration)
    if parsed.platform != trust.platform:
        raise VerificationError("platform", f"the configuration names {parsed.platform}, trusted is {trust.platform}")
    _check_log(keys, parsed, trust)
    return VerifiedEpoch(document, keys, parsed)


def _check_log(keys: KeyManifest, configuration: Configuration, trust: TrustFile) -> None:
    if not keys.origin == configuration.origin == trust.origin:
        raise VerificationError("origin", f"the log is {keys.origin!r}, trusted is {trust.origin!r}")
    checkpoint_key = VerifierKey(keys.origin, Algorithm.ED25519, bytes.fromhex(keys.checkpoint_key))
    if checkpoint_key not in trust.log_keys:
        raise VerificationError("log key", "the manifest names a checkpoint key that the trust file does not")
