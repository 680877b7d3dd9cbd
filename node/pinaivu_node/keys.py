"""The Ed25519 keys of a node and of its operator: made at the first start, in files that only their owner can read."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pinaivu_shared.errors import CallerError
from pinaivu_shared.ids import node_id_of, operator_of
from pinaivu_shared.key_file import make_key_file, public_bytes, read_key_file

KEY_FILE: Final = "node.key"
FLEET_KEY_FILE: Final = "fleet.key"


class Identity(msgspec.Struct, frozen=True):
    """A node's key and what follows from it."""

    key: Ed25519PrivateKey
    public_key: bytes
    node_id: str


class Operator(msgspec.Struct, frozen=True):
    """Who operates the node: a name, and the key that says which nodes are his."""

    name: str
    key: Ed25519PrivateKey

    @property
    def id(self) -> str:
        """How the market tells this operator from others of the same name."""
        return operator_of(self.name, public_bytes(self.key))


def identity_of(key: Ed25519PrivateKey) -> Identity:
    """The identity that belongs to a private key."""
    public_key = public_bytes(key)
    return Identity(key, public_key, node_id_of(public_key))


def make_folder(data_dir: Path) -> None:
    """Make a node's folder where it is not there yet. CallerError where it cannot be."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise CallerError(f"{data_dir} is a file, where the node's folder is expected (--data-dir)") from None
    except OSError as error:
        raise CallerError(f"{data_dir}: {error.strerror}") from error


def load_identity(data_dir: Path, tell: Callable[[Path], None] = lambda _: None) -> Identity:
    """The key in `data_dir`; where there is none it is made, and `tell` hears of it. CallerError when it is no use."""
    make_folder(data_dir)
    path = data_dir / KEY_FILE
    if make_key_file(path):
        tell(path)
    return identity_of(_read(path, "the node's id and what it earned hang on it, so no other is made"))


def load_operator(name: str, path: Path) -> Operator:
    """The operator with the key in this file, made there when there is none. CallerError when it cannot be used."""
    make_key_file(path)
    return Operator(name, _read(path, "your nodes are known by it, so no other is made"))


def _read(path: Path, why: str) -> Ed25519PrivateKey:
    if path.is_dir():
        raise CallerError(f"{path} is a folder, where the file of a key is expected")
    try:
        return read_key_file(path)
    except CallerError as error:
        if not isinstance(error.__cause__, ValueError | TypeError | UnsupportedAlgorithm):
            raise
        raise CallerError(f"{path} holds no key that can be read: restore it from a backup; {why}") from error
