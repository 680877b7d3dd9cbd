"""A certificate authority for KMS endpoints. Ed25519 throughout, so that a handshake always has the same length."""

import datetime as dt
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

START, END = dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


class Authority:
    """One root and the server contexts it vouches for."""

    def __init__(self, name: str) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        ca = x509.BasicConstraints(ca=True, path_length=0)
        self._root = self._build(self._name, self._key).add_extension(ca, critical=True).sign(self._key, None)

    @property
    def root_hex(self) -> str:
        """The root as `KmsTerms.tls_root` holds it."""
        return self._root.public_bytes(Encoding.DER).hex()

    def endpoint(self, host: str, *, end: dt.datetime = END) -> ssl.SSLContext:
        """A server's context that proves to be this host."""
        key = Ed25519PrivateKey.generate()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        certificate = self._build(subject, key, end).add_extension(names, critical=False).sign(self._key, None)
        pem = certificate.public_bytes(Encoding.PEM)
        pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "endpoint.pem"
            path.write_bytes(pem)
            context.load_cert_chain(path)
        return context

    def _build(self, subject: x509.Name, key: Ed25519PrivateKey, end: dt.datetime = END) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number() | 1 << 158)
            .not_valid_before(START)
            .not_valid_after(end)
        )
