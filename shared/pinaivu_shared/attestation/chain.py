"""The certificate path of an attestation document, from the pinned root to the leaf that signed (RFC 5280 6).

Nitro's certificates do not follow the web's profile: leaves have no authority key identifier, no subject
alternative name and a key usage that is not critical, so the extension policy is spelled out here.
Revocation lists are not used (AWS attestation_process.md); leaves live for three hours.
"""

import contextlib
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import SignatureAlgorithmOID

from pinaivu_shared.attestation.document import MAX_CABUNDLE_CERTIFICATES, UnverifiedDocument
from pinaivu_shared.errors import VerificationError

CHECK: Final = "attestation chain"


@dataclass(frozen=True, kw_only=True, slots=True)
class UnverifiedPath:
    """The certificates a document brings, with the root replaced by our own copy. Not validated yet."""

    root: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]  # below the root, in the order of cabundle
    leaf: x509.Certificate
    latest_start: dt.datetime  # from this moment on no certificate is too young


def read_path(document: UnverifiedDocument, *, root: x509.Certificate) -> UnverifiedPath:
    """Parse a document's certificates; each must be P-384 and signed with SHA-384, the first one our root.

    Raises VerificationError("attestation chain").
    """
    if document.cabundle[0] != root.public_bytes(Encoding.DER):
        _refuse("the first certificate of cabundle is not the trusted root: another platform (simulator or QEMU)?")
    with _foreign("a certificate cannot be read"):
        intermediates = tuple(x509.load_der_x509_certificate(der) for der in document.cabundle[1:])
        leaf = x509.load_der_x509_certificate(document.certificate)
        for certificate in (root, *intermediates, leaf):
            _require_p384_sha384(certificate)
        latest_start = max(certificate.not_valid_before_utc for certificate in (root, *intermediates, leaf))
    return UnverifiedPath(root=root, intermediates=intermediates, leaf=leaf, latest_start=latest_start)


def validate_path(path: UnverifiedPath, *, at: dt.datetime) -> None:
    """Validate the path at a time (UTC, whole seconds count, both ends of a validity belong to it).

    The path found must be exactly the one the document shows, so cabundle has no second spelling: reordered,
    doubled and superfluous certificates are refused. Raises VerificationError("attestation chain").
    """
    at = at.replace(microsecond=0)
    with _foreign("no valid path from the trusted root to the leaf"):
        _require_within_validity(path, at)
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store([path.root]))
            .time(at)
            .max_chain_depth(MAX_CABUNDLE_CERTIFICATES)
            .extension_policies(ca_policy=_CA_POLICY, ee_policy=_LEAF_POLICY)
            .build_client_verifier()
        )
        found = verifier.verify(path.leaf, list(path.intermediates)).chain
    if [*found] != [path.leaf, *reversed(path.intermediates), path.root]:
        _refuse("cabundle is not exactly the path from the root to the leaf, in this order")


def _refuse(reason: str) -> NoReturn:
    raise VerificationError(CHECK, reason)


@contextlib.contextmanager
def _foreign(failing: str) -> Iterator[None]:
    """The one border to pyca's X.509 code.

    Beside its VerificationError it lets ValueError, InvalidVersion, UnsupportedAlgorithm and warnings turned into
    errors out, for bytes that an attacker chose: narrower clauses were tried and leaked.
    """
    try:
        yield
    except VerificationError:
        raise
    except Exception as error:
        raise VerificationError(CHECK, f"{failing}: {error}") from error


def _require_p384_sha384(certificate: x509.Certificate) -> None:
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA384:
        _refuse("a certificate is not signed with ECDSA and SHA-384")
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        _refuse("a certificate's key is not on P-384")


def _require_within_validity(path: UnverifiedPath, at: dt.datetime) -> None:
    """Say which certificate is too old or too young; the path building says only that there is no path."""
    names = ["the root", *(f"certificate {n} of cabundle" for n in range(1, len(path.intermediates) + 1)), "the leaf"]
    for name, certificate in zip(names, (path.root, *path.intermediates, path.leaf), strict=True):
        if at < certificate.not_valid_before_utc:
            _refuse(f"{name} is valid from {certificate.not_valid_before_utc}, judged at {at}")
        if at > certificate.not_valid_after_utc:
            _refuse(f"{name} expired at {certificate.not_valid_after_utc}, judged at {at}")


def _require_ca(_policy: verification.Policy, _of: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        _refuse("an issuer is not a CA")


def _require_cert_sign(_policy: verification.Policy, _of: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.key_cert_sign:
        _refuse("an issuer's key may not sign certificates")


def _require_no_ca(_policy: verification.Policy, _of: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if constraints.ca or constraints.path_length is not None:
        _refuse("the leaf is a CA")


def _require_signing_only(_policy: verification.Policy, _of: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.digital_signature or usage.key_cert_sign:
        _refuse("the leaf's key usage is not digital signature")


_CA_POLICY: Final = (
    verification.ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, verification.Criticality.CRITICAL, _require_ca)
    .require_present(x509.KeyUsage, verification.Criticality.CRITICAL, _require_cert_sign)
)
_LEAF_POLICY: Final = (
    verification.ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, verification.Criticality.CRITICAL, _require_no_ca)
    .require_present(x509.KeyUsage, verification.Criticality.AGNOSTIC, _require_signing_only)
)
