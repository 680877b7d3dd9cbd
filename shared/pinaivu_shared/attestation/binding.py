"""What a verified document is bound to: the asker's nonce, our key, our manifest, our configuration.

A document proves only that an enclave asked for these bytes; each function compares one of them with what the
verifier holds. All raise VerificationError, and none can be called with a document that was not verified.
"""

import hmac

from pinaivu_shared.attestation.document import AttestationDocument
from pinaivu_shared.attestation.policy import CONFIGURATION_PCR, configuration_pcr, require_measurement
from pinaivu_shared.errors import VerificationError


def require_nonce(document: AttestationDocument, nonce: bytes) -> None:
    """The document answers this very nonce, or VerificationError("attestation nonce")."""
    _require_equal("attestation nonce", document.nonce, nonce)


def require_public_key(document: AttestationDocument, public_key: bytes) -> None:
    """The document names this key (DER of its SubjectPublicKeyInfo), or VerificationError("attestation key")."""
    _require_equal("attestation key", document.public_key, public_key)


def require_user_data(document: AttestationDocument, user_data: bytes) -> None:
    """The document carries these bytes (the manifest's SHA-256), or VerificationError("attestation manifest")."""
    _require_equal("attestation manifest", document.user_data, user_data)


def require_configuration(document: AttestationDocument, configuration: bytes) -> None:
    """The enclave booted with these configuration bytes, or WrongMeasurementError("PCR16")."""
    require_measurement(document.pcrs, CONFIGURATION_PCR, frozenset((configuration_pcr(configuration),)))


def _require_equal(check: str, actual: bytes | None, expected: bytes) -> None:
    if actual is None:
        raise VerificationError(check, "the document has none")
    if not hmac.compare_digest(actual, expected):
        raise VerificationError(check, f"the document has {actual.hex()}, expected {expected.hex()}")
