"""The server's TLS certificate: a chain and its key in two PEM files, which can be read again while it serves."""

import logging
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509

from pinaivu_host.flag_file import read_flag_file
from pinaivu_shared.errors import CallerError

logger = logging.getLogger(__name__)
_MISMATCH: Final = "KEY_VALUES_MISMATCH"


class ServerCertificate:
    """CallerError where the files are not there, cannot be read, or are no pair. TLS 1.2 is the oldest spoken.

    `context` is for the listening socket. Each handshake takes the pair that was read last: nothing listens anew.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key
        self.files: Final = (str(certificate), str(key))
        self.context: Final = _load(certificate, key)
        self._newest = self.context
        self.context.sni_callback = self._choose

    def read_again(self) -> None:
        """Take what the files have now for the connections to come; keep the old pair, and log it, if that is none."""
        try:
            self._newest = _load(self._certificate, self._key)
        except CallerError as error:
            logger.error("kept the old certificate", extra={"kv": {"reason": str(error)}})  # noqa: TRY400 - not a bug
        else:
            logger.info("read the certificate again", extra={"kv": {"file": str(self._certificate)}})

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """OpenSSL calls it in every handshake, also where the client names no server."""
        connection.context = self._newest


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    _check_certificate(certificate)
    read_flag_file(key, "tls-key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])

    def refuse() -> str:
        raise CallerError(f"--tls-key {key} is encrypted, and nobody is there to type its passphrase")

    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except ssl.SSLError as error:
        if error.reason == _MISMATCH:
            raise CallerError(f"--tls-key {key} is not the key of --tls-certificate {certificate}") from None
        raise CallerError(f"--tls-key {key} has no private key in PEM that serves ({error.reason})") from None
    return context


def _check_certificate(file: Path) -> None:
    try:
        x509.load_pem_x509_certificates(read_flag_file(file, "tls-certificate"))
    except ValueError:
        raise CallerError(f"--tls-certificate {file} has no certificate in PEM") from None
