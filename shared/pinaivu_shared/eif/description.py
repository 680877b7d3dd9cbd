"""The object that `nitro-cli describe-eif` prints, its keys in that order.

Names and certificates are spelled as OpenSSL spells them there (long names, `Jan  2 03:04:05 2026 GMT`).
`CheckCRC` is always true here: an image with another CRC is refused before. Sources: aws-nitro-enclaves-cli,
src/lib.rs and src/common/json_output.rs; aws-nitro-enclaves-image-format, src/utils/eif_reader.rs.
"""

import datetime as dt
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from pinaivu_shared.eif.errors import EifError
from pinaivu_shared.eif.format import Eif, SectionType
from pinaivu_shared.eif.measurements import measure
from pinaivu_shared.eif.metadata import Metadata, parse_metadata
from pinaivu_shared.eif.signature import PART, parse_signature, verify_signature
from pinaivu_shared.errors import VerificationError

HASH_ALGORITHM: Final = "Sha384 { ... }"
"""What Rust's debug format prints for AWS's hasher; scripts look for this very text."""
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LONG_NAMES: Final = {
    NameOID.COMMON_NAME: "commonName",
    NameOID.COUNTRY_NAME: "countryName",
    NameOID.STATE_OR_PROVINCE_NAME: "stateOrProvinceName",
    NameOID.LOCALITY_NAME: "localityName",
    NameOID.STREET_ADDRESS: "streetAddress",
    NameOID.ORGANIZATION_NAME: "organizationName",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "organizationalUnitName",
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.SERIAL_NUMBER: "serialNumber",
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: "ecdsa-with-SHA256",
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: "ecdsa-with-SHA384",
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: "ecdsa-with-SHA512",
    SignatureAlgorithmOID.RSA_WITH_SHA256: "sha256WithRSAEncryption",
    SignatureAlgorithmOID.RSA_WITH_SHA384: "sha384WithRSAEncryption",
    SignatureAlgorithmOID.RSA_WITH_SHA512: "sha512WithRSAEncryption",
}


def describe(eif: Eif) -> dict[str, Any]:
    """JSON values only. Raises EifError where metadata or signature cannot be read."""
    measured = measure(eif)
    described: dict[str, Any] = {
        "EifVersion": eif.version,
        "Measurements": {"HashAlgorithm": HASH_ALGORITHM, **measured.as_hex()},
        "IsSigned": measured.pcr8 is not None,
    }
    section = eif.only(SectionType.SIGNATURE)
    if section is not None:
        described["SigningCertificate"] = describe_certificate(parse_signature(section).certificate)
    described["CheckCRC"] = True
    if section is not None:
        described["SignatureCheck"] = signature_holds(section, measured.pcr0)
    metadata = eif.only(SectionType.METADATA)
    return described if metadata is None else described | _describe_metadata(parse_metadata(metadata))


def signature_holds(section: bytes, pcr0: bytes) -> bool:
    """Whether the certificate's key signed this PCR0. Raises EifError for what is no signature section."""
    try:
        verify_signature(parse_signature(section), pcr0)
    except VerificationError:
        return False
    return True


def describe_certificate(certificate: x509.Certificate) -> dict[str, Any]:
    """The certificate as `SigningCertificate` shows it. Raises EifError where a field of it cannot be read."""
    try:
        issuer = {_long_name(attribute.oid): str(attribute.value) for attribute in certificate.issuer}
        return {
            "IssuerName": dict(sorted(issuer.items())),
            "Algorithm": _long_name(certificate.signature_algorithm_oid),
            "NotBefore": _openssl_time(certificate.not_valid_before_utc),
            "NotAfter": _openssl_time(certificate.not_valid_after_utc),
            "Signature": certificate.signature.hex(":").upper(),
        }
    except Exception as error:  # border: pyca parses late, and raises several kinds for what it dislikes
        raise EifError(PART, f"the certificate cannot be read: {error}") from error


def _describe_metadata(metadata: Metadata) -> dict[str, Any]:
    build = metadata.build_metadata
    return {
        "ImageName": metadata.image_name,
        "ImageVersion": metadata.image_version,
        "Metadata": {
            "BuildTime": build.build_time,
            "BuildTool": build.build_tool,
            "BuildToolVersion": build.build_tool_version,
            "OperatingSystem": build.operating_system,
            "KernelVersion": build.kernel_version,
            "DockerInfo": metadata.docker_info,
            **(metadata.custom_metadata or {}),
        },
    }


def _long_name(oid: x509.ObjectIdentifier) -> str:
    return _LONG_NAMES.get(oid, oid.dotted_string)


def _openssl_time(moment: dt.datetime) -> str:
    return f"{_MONTHS[moment.month - 1]} {moment.day:2d} {moment:%H:%M:%S} {moment.year} GMT"
