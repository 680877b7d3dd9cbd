"""`CiphertextForRecipient`: a CMS envelope as AWS KMS writes it, in BER with indefinite lengths (RFC 5652 6; D.2).

RSAES-OAEP with SHA-256 carries a fresh AES-256 key, AES-256-CBC with PKCS#7 padding the content.
"""

import hashlib
from collections.abc import Callable
from typing import Final, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

EnvelopeForm = Literal["constructed", "primitive"]
"""How the encrypted content is written: as octet strings to be joined, or as one string. AWS has done both."""

OAEP: Final = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)

_END: Final = b"\x00\x00"
_ENVELOPED_DATA: Final = bytes.fromhex("06092a864886f70d010703")
_DATA: Final = bytes.fromhex("06092a864886f70d010701")
_VERSION_2: Final = bytes.fromhex("020102")
_OAEP_SHA256: Final = bytes.fromhex(
    "303c06092a864886f70d010107302f"
    "a00f300d06096086480165030402010500"  # hash: SHA-256
    "a11c301a06092a864886f70d010108300d06096086480165030402010500"  # mask: MGF1 with SHA-256; the label is empty
)
_AES256_CBC: Final = bytes.fromhex("060960864801650304012a")


def seal_for_recipient(
    content: bytes, key: rsa.RSAPublicKey, *, entropy: Callable[[int], bytes], form: EnvelopeForm = "constructed"
) -> bytes:
    """Encrypt `content` so that the holder of `key` alone can read it."""
    content_key, iv = entropy(32), entropy(16)
    recipient = _definite(
        0x30,
        _VERSION_2
        + _definite(0x80, key_identifier(key))
        + _OAEP_SHA256
        + _definite(0x04, key.encrypt(content_key, OAEP)),
    )
    enveloped = (
        _VERSION_2
        + _definite(0x31, recipient)
        + _indefinite(
            0x30,
            _DATA
            + _definite(0x30, _AES256_CBC + _definite(0x04, iv))
            + _content(_encrypted(content, content_key, iv), form),
        )
    )
    return _indefinite(0x30, _ENVELOPED_DATA + _indefinite(0xA0, _indefinite(0x30, enveloped)))


def key_identifier(key: rsa.RSAPublicKey) -> bytes:
    """32 bytes that name the key. What AWS computes is not documented: readers must ignore the value."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _encrypted(content: bytes, content_key: bytes, iv: bytes) -> bytes:
    padder, encryptor = PKCS7(128).padder(), Cipher(algorithms.AES256(content_key), modes.CBC(iv)).encryptor()
    return encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()


def _content(encrypted: bytes, form: EnvelopeForm) -> bytes:
    return _indefinite(0xA0, _definite(0x04, encrypted)) if form == "constructed" else _definite(0x80, encrypted)


def _definite(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _indefinite(tag: int, content: bytes) -> bytes:
    return bytes([tag, 0x80]) + content + _END
