"""Quotes are sealed to the enclave (HPKE, RFC 9180, base mode): the host learns a price only after its use."""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from pinaivu_shared.errors import VerificationError

_SUITE: Final = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
_INFO: Final = b"pinaivu/quote/v1"


def seal(plaintext: bytes, public_key: X25519PublicKey) -> bytes:
    """Encapsulated key (32 bytes) and ciphertext, which only the enclave of this epoch can open."""
    return _SUITE.encrypt(plaintext, public_key, info=_INFO)


def open_sealed(sealed: bytes, private_key: X25519PrivateKey) -> bytes:
    """The plaintext; VerificationError("sealed quote") when it was sealed to another key or altered."""
    try:
        return _SUITE.decrypt(sealed, private_key, info=_INFO)
    except (InvalidTag, ValueError):
        raise VerificationError("sealed quote", "does not open under the sealing key of this epoch") from None
