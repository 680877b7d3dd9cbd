"""Under which certificates a KMS endpoint is believed. The measured configuration decides, and the host never.

On Nitro: Amazon Root CA 1 to 4, which are part of the measured image. Elsewhere: the one certificate that the
configuration names. Whatever the machine itself trusts counts for nothing.
"""

import importlib.resources
import ssl
from typing import assert_never

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pinaivu_enclave.vault import VaultError
from pinaivu_shared.configuration import Configuration


def tls_context(configuration: Configuration) -> ssl.SSLContext:
    """A client's context for this configuration's endpoint, whose name it checks; the only one that the vault uses.

    VaultError where the platform and the root that is named do not fit each other.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=_trusted_pem(configuration))
    except ssl.SSLError as error:  # OpenSSL reads all of a certificate, pyca what it is asked for
        raise VaultError(f"configuration: kms.tls_root is no certificate that OpenSSL takes: {error.reason}") from error
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    return context


def amazon_roots_pem() -> str:
    """The four roots under which AWS's endpoints hang (Amazon Trust Services, "Root CAs")."""
    return (importlib.resources.files(__package__) / "amazon_roots.pem").read_text("ascii")


def _trusted_pem(configuration: Configuration) -> str:
    """Repeats the check of `parse_configuration`: here is where a wrong combination would do its harm."""
    named = configuration.kms.tls_root
    match configuration.platform:
        case "nitro":
            if named:
                raise VaultError("configuration: kms.tls_root: nitro takes none but Amazon's")
            return amazon_roots_pem()
        case "simulator" | "qemu":
            return _certificate_pem(named)
        case _:
            assert_never(configuration.platform)


def _certificate_pem(der_hex: str) -> str:
    try:
        return x509.load_der_x509_certificate(bytes.fromhex(der_hex)).public_bytes(Encoding.PEM).decode()
    except Exception as error:  # border: pyca raises ValueError, InvalidVersion and its own warnings here
        raise VaultError("configuration: kms.tls_root is not the DER of one certificate, in hex") from error
