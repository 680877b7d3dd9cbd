"""One epoch of the enclave: attestation document, key manifest and configuration, bound to each other.

The document carries the receipt key and SHA-256 of the manifest; the manifest carries the configuration's digest and
the public keys; PCR16 carries the configuration. So whoever believes the document believes all three.
"""

import msgspec
from cryptography import x509

from pinaivu_shared.attestation.binding import require_configuration, require_public_key, require_user_data
from pinaivu_shared.attestation.document import AttestationDocument
from pinaivu_shared.attestation.policy import MeasurementPolicy
from pinaivu_shared.attestation.verify import verify_archived, verify_live
from pinaivu_shared.canonical import decode
from pinaivu_shared.configuration import Configuration, Platform, parse_configuration
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.log.keys import Algorithm, VerifierKey
from pinaivu_shared.manifest import KeyManifest
from pinaivu_shared.trust import TrustFile


class VerifiedEpoch(msgspec.Struct, frozen=True):
    """An epoch whose document was judged and whose parts fit together. Made by the functions below only."""

    document: AttestationDocument
    manifest: KeyManifest
    configuration: Configuration

    @property
    def log_key(self) -> VerifierKey:
        """The key under which this log's checkpoints are signed."""
        return VerifierKey(self.manifest.origin, Algorithm.ED25519, bytes.fromhex(self.manifest.checkpoint_key))


def verify_epoch_live(  # noqa: PLR0913 - each is evidence or a policy, and none has a default
    document: bytes, manifest: bytes, configuration: bytes, *, trust: TrustFile, nonce: bytes, now_ms: int
) -> VerifiedEpoch:
    """Judge a fresh document: made for this nonce, now. For a node or client that talks to the enclave."""
    judged = verify_live(document, root=trust.root, policy=trust.policy, nonce=nonce, now_ms=now_ms)
    return _of_log(_bind(judged, manifest, configuration, trust.platform), trust)


def verify_epoch_archived(document: bytes, manifest: bytes, configuration: bytes, *, trust: TrustFile) -> VerifiedEpoch:
    """Judge a stored document at the time it was made. For receipts, whose epoch may be long over."""
    judged = verify_archived(document, root=trust.root, policy=trust.policy)
    return _of_log(_bind(judged, manifest, configuration, trust.platform), trust)


def verify_epoch_at_first_sight(  # noqa: PLR0913 - as above
    document: bytes,
    manifest: bytes,
    configuration: bytes,
    *,
    platform: Platform,
    root: x509.Certificate,
    policy: MeasurementPolicy,
    nonce: bytes,
    now_ms: int,
) -> VerifiedEpoch:
    """Judge a fresh document of a log that no trust file names yet. For whoever writes one: see `enrolment`."""
    judged = verify_live(document, root=root, policy=policy, nonce=nonce, now_ms=now_ms)
    return _bind(judged, manifest, configuration, platform)


def _bind(document: AttestationDocument, manifest: bytes, configuration: bytes, platform: Platform) -> VerifiedEpoch:
    keys = decode(manifest, KeyManifest, check="manifest")
    require_user_data(document, keys.user_data())
    require_public_key(document, bytes.fromhex(keys.receipt_key))
    parsed = parse_configuration(configuration)
    if keys.configuration != digest_of(configuration):
        raise VerificationError("configuration", "is not the one that the manifest names")
    require_configuration(document, configuration)
    if parsed.platform != platform:
        raise VerificationError("platform", f"the configuration names {parsed.platform}, trusted is {platform}")
    if keys.origin != parsed.origin:
        raise VerificationError(
            "origin", f"the manifest's log is {keys.origin!r}, the configuration's {parsed.origin!r}"
        )
    return VerifiedEpoch(document, keys, parsed)


def _of_log(epoch: VerifiedEpoch, trust: TrustFile) -> VerifiedEpoch:
    if epoch.manifest.origin != trust.origin:
        raise VerificationError("origin", f"the log is {epoch.manifest.origin!r}, trusted is {trust.origin!r}")
    if epoch.log_key not in trust.log_keys:
        raise VerificationError("log key", "the manifest names a checkpoint key that the trust file does not")
    return epoch
