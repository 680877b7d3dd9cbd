"""The node's Ed25519 key: made at the first start, kept in a file that only its owner can read."""

import os
import stat
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from pinaivu_shared.errors import CallerError
from pinaivu_shared.ids import node_id_of

KEY_FILE: Final = "node.key"


class Identity(msgspec.Struct, frozen=True):
    """A node's key and what follows from it."""

    key: Ed25519PrivateKey
    public_key: bytes
    node_id: str


def identity_of(key: Ed25519PrivateKey) -> Identity:
    """The identity that belongs to a private key."""
    public_key = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return Identity(key, public_key, node_id_of(public_key))


def load_identity(data_dir: Path) -> Identity:
    """The key in `data_dir`, made there when there is none. CallerError when it cannot be used."""
    path = data_dir / KEY_FILE
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create_once(path)
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise CallerError(f"{path} can be read by others than its owner; `chmod 600` it")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CallerError(f"{path}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise CallerError(f"{path} is not an Ed25519 key")
    return identity_of(key)


def _create_once(path: Path) -> None:
    """Write a fresh key, unless there is one: whole and durable under another name first, so none is ever half."""
    if path.exists():
        return
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass  # another start of this node was first; its key counts
    finally:
        fresh.unlink()
