"""An Ed25519 key in a file: PEM (PKCS #8), readable by its owner only, never overwritten."""

import os
import stat
from pathlib import Path

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


def read_key_file(path: Path) -> Ed25519PrivateKey:
    """The key in the file. CallerError when it is not there, is no Ed25519 key, or is readable by others."""
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise CallerError(f"{path} can be read by others than its owner; `chmod 600` it")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise CallerError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CallerError(f"{path}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise CallerError(f"{path} is not an Ed25519 key")
    return key


def make_key_file(path: Path) -> bool:
    """Write a fresh key, unless there is a file: whether one was made. CallerError where it cannot be written.

    It is whole and durable under another name first, so no reader ever finds half a key.
    """
    if path.exists():
        return False
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        os.link(fresh, path)
    except FileExistsError:
        return False  # somebody was first; that key counts
    except OSError as error:
        raise CallerError(f"{path}: {error.strerror}") from error
    finally:
        fresh.unlink(missing_ok=True)
    return True


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The raw public key, 32 bytes."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
