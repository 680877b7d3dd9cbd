"""`pinaivu image pcrs` with a key: the same image with a signature section, which gives it a PCR8."""

import datetime as dt
from dataclasses import replace

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pinaivu_shared.eif.format import MAX_SECTIONS, VERSIONS, Eif, Section, SectionType
from pinaivu_shared.eif.measurements import measure
from pinaivu_shared.eif.signature import make_signature, parse_signature
from pinaivu_shared.errors import CallerError


def sign_image(eif: Eif, *, key_pem: bytes, certificate_pem: bytes, now: dt.datetime) -> Eif:
    """The image with its PCR0 signed, in place of an earlier signature if it had one.

    Raises CallerError for a key or certificate that cannot be used, also for one that is not valid `now` (with time
    zone): the platform would refuse to boot the image (E36). Raises EifError where the certificate cannot be read.
    """
    sections = tuple(section for section in eif.sections if section.type is not SectionType.SIGNATURE)
    if eif.version < VERSIONS[-1]:
        raise CallerError(f"the image has version {eif.version}; only version {VERSIONS[-1]} is signed here")
    if len(sections) == MAX_SECTIONS:
        raise CallerError(f"the image has {MAX_SECTIONS} sections already, so no signature fits")
    unsigned = replace(eif, sections=sections)
    section = make_signature(measure(unsigned).pcr0, key=_load_key(key_pem), certificate_pem=certificate_pem)
    _require_valid(parse_signature(section).certificate, now)
    return replace(eif, sections=(*sections, Section(SectionType.SIGNATURE, section)))


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise CallerError("the private key is encrypted; decrypt it into a file that only you can read") from None
    except (ValueError, UnsupportedAlgorithm):  # their texts could quote the key, so nothing is kept
        raise CallerError("the private key is not a PEM file with a private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CallerError("the private key is not an elliptic-curve key (P-256, P-384 or P-521)")
    return key


def _require_valid(certificate: x509.Certificate, now: dt.datetime) -> None:
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        validity = f"{certificate.not_valid_before_utc} to {certificate.not_valid_after_utc}"
        raise CallerError(f"the certificate is valid from {validity}; the platform would refuse the image (E36)")
