"""Who signs notes: key names, key ids, verifier keys (C2SP signed-note, tlog-cosignature).

A verifier key, or vkey, is one line: `<name>+<id, 8 lowercase hex>+<base64 of type byte and public key>`.
"""

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pinaivu_shared.errors import VerificationError
from pinaivu_shared.log.grammar import read_base64, read_text, write_base64

KEY_CHECK = "verifier key"
KEY_ID_BYTES = 4
_PUBLIC_KEY_BYTES = 32
_VKEY_BYTES_MAX = 4096
_KEY_ID = re.compile(r"[0-9a-f]{8}")


class Algorithm(IntEnum):
    """Signature types of C2SP signed-note that are spoken here; the number is the type byte."""

    ED25519 = 0x01  # over the text: logs
    COSIGNATURE_V1 = 0x04  # Ed25519 over time and text: witnesses


@dataclass(frozen=True)
class VerifierKey:
    """A signer's name and public key for one algorithm; (name, key_id) is how a signature line refers to it.

    Raises:
        VerificationError: "verifier key" if the name is none or the key is not 32 bytes.

    """

    name: str
    algorithm: Algorithm
    public_key: bytes  # Ed25519, 32 bytes (RFC 8032)

    def __post_init__(self) -> None:
        """Leave nothing that could fail when the key is used."""
        if not is_key_name(self.name):
            raise VerificationError(KEY_CHECK, f"{self.name[:64]!r} is not a key name")
        if len(self.public_key) != _PUBLIC_KEY_BYTES:
            raise VerificationError(KEY_CHECK, f"{len(self.public_key)} bytes instead of {_PUBLIC_KEY_BYTES}")

    @cached_property
    def key_id(self) -> bytes:
        """First 4 bytes of SHA-256 over name, newline, type byte and public key. Not collision resistant."""
        named = self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public_key
        return sha256(named).digest()[:KEY_ID_BYTES]

    def check_signature(self, check: str, *, signature: bytes, message: bytes) -> None:
        """Check a plain Ed25519 signature (RFC 8032 5.1.7) over exactly this message.

        Raises:
            VerificationError: under the name `check`.

        """
        try:
            self._ed25519.verify(signature, message)
        except InvalidSignature as error:
            raise VerificationError(check, f"the signature of {self.name[:64]!r} does not hold") from error

    @cached_property
    def _ed25519(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.public_key)


def is_key_name(name: str) -> bool:
    """Tell whether a signer may be called this: not empty, no Unicode space, no plus, no control character."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return bool(name) and not any(one == "+" or one < " " or one.isspace() for one in name)


def parse_vkey(text: str | bytes) -> VerifierKey:
    """Read a verifier key line (without newline) and compare the id in it with that of the key in it.

    Raises:
        VerificationError: "verifier key", also for the types 0x02, 0x05 and 0x06, which are not spoken here.

    """
    parts = read_text(KEY_CHECK, text, bytes_max=_VKEY_BYTES_MAX).split("+", 2)  # base64 may contain a plus
    if len(parts) != 3:
        raise VerificationError(KEY_CHECK, "is not <name>+<id>+<key>")
    name, key_id, typed_key = parts[0], parts[1], read_base64(KEY_CHECK, parts[2])
    if not _KEY_ID.fullmatch(key_id):
        raise VerificationError(KEY_CHECK, f"id {key_id[:32]!r} is not 8 lowercase hexadecimal digits")
    if typed_key[:1] not in {bytes([one]) for one in Algorithm}:
        raise VerificationError(KEY_CHECK, f"{name[:64]!r} has a key of type 0x{typed_key[:1].hex()}")
    key = VerifierKey(name, Algorithm(typed_key[0]), typed_key[1:])
    if key.key_id.hex() != key_id:
        raise VerificationError(KEY_CHECK, f"id {key_id} stands beside a key of id {key.key_id.hex()}")
    return key


def format_vkey(key: VerifierKey) -> str:
    """Verifier key line of a key, without newline; `parse_vkey` reads it."""
    return f"{key.name}+{key.key_id.hex()}+{write_base64(bytes([key.algorithm]) + key.public_key)}"
