"""TLS of the simulated KMS: an authority of its own, and a certificate for the name of a regional endpoint.

ECDSA over P-256, and every extension that strict validation asks for (RFC 5280 4.2; OpenSSL's X509_V_FLAG_X509_STRICT,
which Python sets from 3.13 on). The names say "Simulator", so that nobody takes this for one of Amazon's roots.
"""

import datetime as dt
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from pinaivu_simulator.data_directory import write_private
from pinaivu_simulator.pki import (
    ROOT_LIFETIME,
    Authority,
    CertificateProfile,
    Entropy,
    SimulatedPki,
    issue,
    key_usage,
    new_serial,
    subject,
)

_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_HOUR: Final = dt.timedelta(hours=1)

AUTHORITY: Final = CertificateProfile(
    lifetime=ROOT_LIFETIME,
    backdated=_HOUR,
    usage=key_usage(cert=True, crl=True),
    path_length=0,
    authority_identifier=False,
)
ENDPOINT: Final = CertificateProfile(
    lifetime=dt.timedelta(days=365), backdated=_HOUR, usage=key_usage(signature=True), ca=False
)


def new_authority(*, now: dt.datetime, entropy: Entropy) -> Authority:
    """A fresh root for KMS endpoints, valid for 30 years from an hour before `now` (UTC)."""
    name, serial = subject("kms simulator root"), new_serial(entropy)
    return issue(AUTHORITY, name, _new_p256(entropy), issuer=None, now=now, serial=serial, digest=hashes.SHA256())


def endpoint_certificate(authority: Authority, endpoint: str, *, now: dt.datetime, entropy: Entropy) -> Authority:
    """A certificate for a server of this host name, valid for a year from an hour before `now` (UTC)."""
    names = x509.SubjectAlternativeName([x509.DNSName(endpoint)])
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return issue(
        ENDPOINT,
        subject(endpoint),
        _new_p256(entropy),
        issuer=authority,
        now=now,
        serial=new_serial(entropy),
        more=((names, False), (server, False)),
        digest=hashes.SHA256(),
    )


def server_context(certificate: Authority, path: Path) -> ssl.SSLContext:
    """TLS for a server with this certificate. `path` gets key and certificate, since `ssl` reads files only."""
    write_private(path, SimulatedPki(certificate).to_bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context


def _new_p256(entropy: Entropy) -> ec.EllipticCurvePrivateKey:
    """A P-256 key out of 40 bytes of entropy, enough for no visible bias (FIPS 186-5 A.2.1)."""
    return ec.derive_private_key(int.from_bytes(entropy(40), "big") % (_P256_ORDER - 1) + 1, ec.SECP256R1())
