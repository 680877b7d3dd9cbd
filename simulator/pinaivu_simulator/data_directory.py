"""The folder of a simulated network: what it makes at its first start and finds again at every later one."""

import datetime as dt
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pinaivu_shared.errors import CallerError
from pinaivu_shared.key_file import make_key_file, read_key_file
from pinaivu_simulator.pki import SimulatedPki


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    staged = path.with_name(path.name + ".new")
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    staged.replace(path)


def keep(path: Path, make: Callable[[], bytes]) -> bytes:
    """The file's content, made now if it is not there yet."""
    if not path.exists():
        write_private(path, make())
    return path.read_bytes()


class DataDirectory:
    """Paths and lasting secrets of one simulated network."""

    def __init__(self, folder: Path) -> None:
        """CallerError for a path where no folder can be."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except FileExistsError as error:
            raise CallerError(f"--data-dir {folder}: is a file, where a folder is expected") from error
        except OSError as error:
            raise CallerError(f"--data-dir {folder}: {error.strerror}") from error
        self.configuration = folder / "configuration.json"
        self.trust = folder / "trust.json"
        self.aws_credentials = folder / "credentials"
        self.kms_policy = folder / "kms-policy.json"
        self.pcrs = folder / "pcrs.json"
        self.admin_key_file = folder / "admin.key"
        self.operator_key_file = folder / "operator.key"
        self.api_key_file = folder / "api.key"
        self.pids = folder / "pids.json"

    @contextmanager
    def in_use(self) -> Iterator[int]:
        """Keep other networks off this folder; CallerError when one is on it. Two would fork one log.

        Gives the lock's file descriptor, which every part inherits: so parts that outlive their supervisor keep the
        folder as well.
        """
        with self._open_lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CallerError(
                    f"another network runs on {self.folder}: end it or use another --data-dir; "
                    f"its processes, should its supervisor be gone: {self._last_processes()}"
                ) from None
            self._refuse_older_versions()
            yield lock.fileno()

    def _open_lock(self) -> BinaryIO:
        try:
            return (self.folder / "lock").open("wb")
        except OSError as error:
            raise CallerError(f"--data-dir {self.folder}: no file can be made there: {error.strerror}") from error

    def _refuse_older_versions(self) -> None:
        """Their logs have leaves that the enclave of today does not take."""
        was, written = None, self.configuration.read_bytes() if self.configuration.exists() else None
        if (self.folder / "vault.secret").exists():
            was = "before KMS"
        elif written is not None and b'"operator_key"' not in written:
            was = "before credit was in the enclave"
        elif written is not None and b'"context_length_max"' not in written:
            was = "before the market bounded contexts"
        if was is not None:
            raise CallerError(f"{self.folder} is of a version {was}, which cannot go on: use another --data-dir")

    def _last_processes(self) -> str:
        return self.pids.read_text(encoding="utf-8") if self.pids.exists() else "unknown"

    def pki(self) -> SimulatedPki:
        """The simulated platform's root."""
        made = keep(
            self.folder / "platform-root.pem",
            lambda: SimulatedPki.create(now=dt.datetime.now(dt.UTC), entropy=secrets.token_bytes).to_bytes(),
        )
        return SimulatedPki.from_bytes(made)

    def origin(self) -> str:
        """The name of this network's log, unlike any other's."""
        return keep(self.folder / "origin", lambda: b"pinaivu.local/" + secrets.token_hex(8).encode()).decode()

    def admin_key(self) -> str:
        """The key of the operator's API."""
        return keep(self.admin_key_file, lambda: secrets.token_urlsafe(36).encode()).decode().strip()

    def operator_key(self) -> Ed25519PrivateKey:
        """The key that signs deposits and payouts."""
        make_key_file(self.operator_key_file)
        return read_key_file(self.operator_key_file)

    def host(self) -> Path:
        """Where the host keeps its database."""
        return self._subfolder("host")

    def node(self, number: int) -> Path:
        """Where node `number` keeps its key, counted from 1."""
        return self._subfolder(f"node-{number}")

    def aws_environment(self) -> dict[str, str]:
        """The host's environment: the simulated KMS knows the caller of this folder's credentials, and no other."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return ours | {
            "AWS_SHARED_CREDENTIALS_FILE": str(self.aws_credentials),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _subfolder(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(exist_ok=True, mode=0o700)
        return path
