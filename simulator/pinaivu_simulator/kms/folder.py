"""What a simulated KMS keeps in the folder of its platform (nothing of it protects anything).

    platform-root.pem   the simulated platform's root, under which documents are judged; the simulated enclave's too
    kms-root.pem        the endpoint's own authority, key and certificate; configurations carry the certificate
    kms-server.pem      the endpoint's key and certificate, new at every start
    kms-key.json        {"id": UUID, "material": 32 bytes in hex}, the KMS key
    credentials         an AWS shared credentials file, profile `default`: what may call; for the host's boto3

All are made at first use, readable by their owner only, and found again afterwards.
"""

import configparser
import datetime as dt
import json
import secrets
import ssl
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pinaivu_shared.errors import CallerError
from pinaivu_simulator.data_directory import DataDirectory, keep
from pinaivu_simulator.kms.certificates import endpoint_certificate, new_authority, server_context
from pinaivu_simulator.kms.policy import NOBODY, KeyPolicy, parse_policy
from pinaivu_simulator.kms.sigv4 import Credentials
from pinaivu_simulator.kms.store import StoredKey
from pinaivu_simulator.nsm import ROLE
from pinaivu_simulator.pki import REGION, Authority, SimulatedPki

ACCOUNT: Final = "000000000000"
ENDPOINT: Final = f"kms.{REGION}.amazonaws.com"


class KmsFolder:
    """Key, authority and callers of one simulated KMS. Asking needs no running server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.platform = DataDirectory(folder)
        self.credentials_file = self.platform.aws_credentials

    @property
    def key(self) -> StoredKey:
        """The KMS key."""
        kept = json.loads(keep(self._folder / "kms-key.json", _new_key))
        return StoredKey(id=kept["id"], material=bytes.fromhex(kept["material"]))

    @property
    def key_arn(self) -> str:
        """The key's name, for a configuration's `kms.key_arn`."""
        return f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{self.key.id}"

    @property
    def authority(self) -> Authority:
        """The authority above the endpoint; kept as the simulated platform keeps its root."""
        return SimulatedPki.from_bytes(keep(self._folder / "kms-root.pem", _new_authority)).root

    @property
    def tls_root(self) -> bytes:
        """DER of its certificate, for a configuration's `kms.tls_root`."""
        return self.authority.der

    @property
    def credentials(self) -> Mapping[str, Credentials]:
        """Who may call, by access key id; CallerError when the file is none that AWS's tools would read."""
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(keep(self.credentials_file, _new_credentials).decode())
            profile = parser["default"]
            return {
                profile["aws_access_key_id"]: Credentials(
                    principal=ROLE,
                    secret=profile["aws_secret_access_key"],
                    session_token=profile.get("aws_session_token"),
                )
            }
        except (configparser.Error, KeyError, UnicodeDecodeError) as error:
            raise CallerError(f"{self.credentials_file}: no AWS credentials file with a profile `default`") from error

    def tls(self, endpoint: str = ENDPOINT) -> ssl.SSLContext:
        """TLS for a server that has this host name."""
        now, entropy = dt.datetime.now(dt.UTC), secrets.token_bytes
        certificate = endpoint_certificate(self.authority, endpoint, now=now, entropy=entropy)
        return server_context(certificate, self._folder / "kms-server.pem")


def read_policy(path: Path) -> KeyPolicy:
    """The key policy in a file; nobody's while it is not there, CallerError when it cannot be used."""
    try:
        return parse_policy(path.read_bytes())
    except FileNotFoundError:
        return NOBODY
    except OSError as error:
        raise CallerError(f"key policy: {path} cannot be read: {error.strerror}") from error


def _new_key() -> bytes:
    return json.dumps({"id": str(uuid.uuid4()), "material": secrets.token_hex(32)}).encode()


def _new_authority() -> bytes:
    return SimulatedPki(new_authority(now=dt.datetime.now(dt.UTC), entropy=secrets.token_bytes)).to_bytes()


def _new_credentials() -> bytes:
    access_key = f"SIMULATED{secrets.token_hex(6).upper()}"
    lines = ("[default]", f"aws_access_key_id = {access_key}", f"aws_secret_access_key = {secrets.token_urlsafe(30)}")
    return "\n".join((*lines, "")).encode()
