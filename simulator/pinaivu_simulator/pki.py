"""The simulated platform's certificates: a root of its own, and profiles shaped like Nitro's.

Four levels of authorities above a leaf, all P-384 with SHA-384, same extensions, criticality and lifetimes as the
genuine ones. Keys, serials and signatures come from the injected entropy only, so a seed fixes every byte.
Nothing made here can verify under the pinned AWS root; names say so to people as well.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

PARTITION: Final = "simulator"
REGION: Final = "local-1"
ROOT_LIFETIME: Final = dt.timedelta(days=30 * 365)

Entropy = Callable[[int], bytes]
"""`entropy(size)` gives that many bytes: the operating system's, or a seeded generator's."""

_P384_ORDER: Final = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)
_PEM_END_OF_KEY: Final = b"-----END PRIVATE KEY-----\n"


@dataclass(frozen=True, kw_only=True)
class CertificateProfile:
    """What the certificates of one level have in common."""

    lifetime: dt.timedelta
    usage: x509.KeyUsage | None
    path_length: int | None = None
    backdated: dt.timedelta = dt.timedelta(0)
    ca: bool = True
    constraints_critical: bool = True
    usage_critical: bool = True
    subject_identifier: bool = True
    authority_identifier: bool = True
    revocation_list: bool = False


@dataclass(frozen=True)
class Authority:
    """A certificate and its key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate's DER."""
        return self.certificate.public_bytes(Encoding.DER)


def key_usage(
    *, signature: bool = False, commitment: bool = False, cert: bool = False, crl: bool = False
) -> x509.KeyUsage:
    """The extension with these of its bits set (RFC 5280 4.2.1.3)."""
    return x509.KeyUsage(
        digital_signature=signature,
        content_commitment=commitment,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=cert,
        crl_sign=crl,
        encipher_only=False,
        decipher_only=False,
    )


_AUTHORITY_USAGE: Final = key_usage(signature=True, cert=True, crl=True)
_HOUR: Final = dt.timedelta(hours=1)

ROOT: Final = CertificateProfile(
    lifetime=ROOT_LIFETIME, backdated=_HOUR, usage=_AUTHORITY_USAGE, authority_identifier=False
)
REGIONAL: Final = CertificateProfile(
    lifetime=dt.timedelta(days=20, hours=1),
    backdated=_HOUR,
    usage=_AUTHORITY_USAGE,
    path_length=2,
    revocation_list=True,
)
ZONAL: Final = CertificateProfile(
    lifetime=dt.timedelta(days=5, hours=14),
    backdated=_HOUR,
    usage=_AUTHORITY_USAGE,
    path_length=1,
    revocation_list=True,
)
INSTANCE: Final = CertificateProfile(lifetime=dt.timedelta(hours=24), usage=key_usage(cert=True), path_length=0)
LEAF: Final = CertificateProfile(
    lifetime=dt.timedelta(hours=3, seconds=3),
    usage=key_usage(signature=True, commitment=True),
    ca=False,
    usage_critical=False,
    subject_identifier=False,
    authority_identifier=False,
)


@dataclass(frozen=True)
class SimulatedPki:
    """The simulated platform's root, which stays the same for as long as its bytes are kept."""

    root: Authority

    @classmethod
    def create(cls, *, now: dt.datetime, entropy: Entropy) -> "SimulatedPki":
        """A fresh root, valid for 30 years from an hour before `now` (UTC)."""
        key = new_key(entropy)
        name = subject(f"{PARTITION}.nitro-enclaves")
        return cls(issue(ROOT, name, key, issuer=None, now=now, serial=new_serial(entropy)))

    @classmethod
    def from_bytes(cls, stored: bytes) -> "SimulatedPki":
        """Read what `to_bytes` wrote; raises ValueError for anything else."""
        key_pem, end, certificate_pem = stored.partition(_PEM_END_OF_KEY)
        key = load_pem_private_key(key_pem + end, password=None)
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError("not the key and certificate of a simulated root")
        return cls(Authority(key, certificate))

    def to_bytes(self) -> bytes:
        """The root's secret key and certificate, two PEM blocks; whoever has them can simulate this platform."""
        key_pem = self.root.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key_pem + self.trust_root_pem.encode()

    @property
    def trust_root(self) -> x509.Certificate:
        """What verifiers of this platform's documents pin."""
        return self.root.certificate

    @property
    def trust_root_pem(self) -> str:
        """The same as PEM, for a trust file's `root`."""
        return self.root.certificate.public_bytes(Encoding.PEM).decode()


def new_key(entropy: Entropy) -> ec.EllipticCurvePrivateKey:
    """A P-384 key out of 56 bytes of entropy, enough for no visible bias (FIPS 186-5 A.2.1)."""
    return ec.derive_private_key(int.from_bytes(entropy(56), "big") % (_P384_ORDER - 1) + 1, ec.SECP384R1())


def new_serial(entropy: Entropy) -> int:
    """A positive certificate serial of up to 16 bytes."""
    return int.from_bytes(entropy(16), "big") >> 1 | 1


def subject(common_name: str) -> x509.Name:
    """A distinguished name as Nitro's, with an organisation that no one mistakes for Amazon."""
    parts = (
        (NameOID.COUNTRY_NAME, "XX"),
        (NameOID.ORGANIZATION_NAME, "Pinaivu"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "Simulator"),
        (NameOID.COMMON_NAME, common_name),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def issue(  # noqa: PLR0913  the parts of a certificate
    profile: CertificateProfile,
    name: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: Authority | None,
    now: dt.datetime,
    serial: int,
    more: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    digest: hashes.SHA256 | hashes.SHA384 | None = None,
) -> Authority:
    """A certificate by `issuer`, or by itself if that is None; `more` are extensions with their criticality."""
    start = now.astimezone(dt.UTC).replace(microsecond=0) - profile.backdated
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(start + profile.lifetime)
    )
    for extension, critical in (*_extensions(profile, key, issuer), *more):
        builder = builder.add_extension(extension, critical=critical)
    signer = issuer.key if issuer else key
    return Authority(key, builder.sign(signer, digest or hashes.SHA384(), ecdsa_deterministic=True))


def _extensions(
    profile: CertificateProfile, key: ec.EllipticCurvePrivateKey, issuer: Authority | None
) -> list[tuple[x509.ExtensionType, bool]]:
    constraints = x509.BasicConstraints(ca=profile.ca, path_length=profile.path_length)
    extensions: list[tuple[x509.ExtensionType, bool]] = [(constraints, profile.constraints_critical)]
    if issuer and profile.authority_identifier:
        issuer_key = issuer.key.public_key()
        extensions.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), False))
    if profile.subject_identifier:
        extensions.append((x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
    if profile.usage:
        extensions.append((profile.usage, profile.usage_critical))
    if profile.revocation_list:
        point = x509.UniformResourceIdentifier("http://crl.simulator.invalid/none.crl")
        points = [x509.DistributionPoint(full_name=[point], relative_name=None, reasons=None, crl_issuer=None)]
        extensions.append((x509.CRLDistributionPoints(points), False))
    return extensions
