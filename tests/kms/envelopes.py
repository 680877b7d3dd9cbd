"""The encrypting side of `CiphertextForRecipient`: an independent BER writer, for envelopes right and wrong."""

import os

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

SHA256_AND_NULL = bytes.fromhex("0609608648016503040201 0500")
ENVELOPED_DATA = bytes.fromhex("06092a864886f70d010703")
DATA = bytes.fromhex("06092a864886f70d010701")
OAEP = bytes.fromhex("06092a864886f70d010107")
MGF1 = bytes.fromhex("06092a864886f70d010108")
AES_256_CBC = bytes.fromhex("060960864801650304012a")
VERSION_2 = bytes.fromhex("020102")
IV = bytes(range(16))


def definite(tag: int, content: bytes) -> bytes:
    """Tag, the shortest definite length, content."""
    size = len(content)
    length = (
        bytes([size])
        if size < 128
        else bytes([0x80 + (size.bit_length() + 7) // 8]) + size.to_bytes((size.bit_length() + 7) // 8)
    )
    return bytes([tag]) + length + content


def indefinite(tag: int, content: bytes) -> bytes:
    """Tag, indefinite length, content, end-of-contents."""
    return bytes([tag, 0x80]) + content + bytes(2)


def in_parts(ciphertext: bytes, size: int) -> bytes:
    """Form 1 of the content: octet strings of at most `size` bytes."""
    parts = [ciphertext[at : at + size] for at in range(0, len(ciphertext), size)]
    return indefinite(0xA0, b"".join(definite(0x04, part) for part in parts))


def in_one(ciphertext: bytes) -> bytes:
    """Form 2 of the content."""
    return definite(0x80, ciphertext)


def around(encrypted_key: bytes, content: bytes, *, iv: bytes = IV, key_identifier: bytes = bytes(32)) -> bytes:
    """The envelope around an encrypted key and a content in one of its forms."""
    sha256 = definite(0x30, SHA256_AND_NULL)
    oaep = definite(0xA0, sha256) + definite(0xA1, definite(0x30, MGF1 + sha256))
    recipient = (
        VERSION_2
        + definite(0x80, key_identifier)
        + definite(0x30, OAEP + definite(0x30, oaep))
        + definite(0x04, encrypted_key)
    )
    encrypted = DATA + definite(0x30, AES_256_CBC + definite(0x04, iv)) + content
    body = VERSION_2 + definite(0x31, definite(0x30, recipient)) + indefinite(0x30, encrypted)
    return indefinite(0x30, ENVELOPED_DATA + indefinite(0xA0, indefinite(0x30, body)))


def encrypt_key(content_key: bytes, key: RSAPublicKey, digest: HashAlgorithm | None = None) -> bytes:
    """RSAES-OAEP, with SHA-256 unless told otherwise."""
    digest = digest or SHA256()
    return key.encrypt(content_key, padding.OAEP(padding.MGF1(digest), digest, None))


def encrypt_content(padded: bytes, content_key: bytes) -> bytes:
    """AES-CBC of bytes that are padded already."""
    encryptor = Cipher(algorithms.AES(content_key), modes.CBC(IV)).encryptor()
    return encryptor.update(padded) + encryptor.finalize()


def pad(plaintext: bytes) -> bytes:
    """PKCS#7 to 16 bytes."""
    size = 16 - len(plaintext) % 16
    return plaintext + bytes([size]) * size


def seal_envelope(secret: bytes, key: RSAPublicKey, *, part_bytes: int | None = None) -> bytes:
    """An envelope as KMS makes it: form 1 with parts of this size, or form 2."""
    content_key = os.urandom(32)
    ciphertext = encrypt_content(pad(secret), content_key)
    content = in_one(ciphertext) if part_bytes is None else in_parts(ciphertext, part_bytes)
    return around(encrypt_key(content_key, key), content)


def broken_envelopes(secret: bytes, key: RSAPublicKey, other: RSAPublicKey) -> dict[str, bytes]:
    """Envelopes of the right shape that must not open, by what is wrong."""
    content_key = os.urandom(32)
    encrypted = encrypt_key(content_key, key)
    good = encrypt_content(pad(secret), content_key)
    return {
        "another key": around(encrypt_key(content_key, other), in_one(good)),
        "OAEP with SHA-1": around(encrypt_key(content_key, key, SHA1()), in_one(good)),  # noqa: S303 - to be refused
        "content key of 16 bytes": around(encrypt_key(content_key[:16], key), in_one(good)),
        "content key of 33 bytes": around(encrypt_key(content_key + b"\0", key), in_one(good)),
        "encrypted key of zeros": around(bytes(256), in_one(good)),
        "encrypted key beyond the modulus": around(b"\xff" * 256, in_one(good)),
        "padding of zero": around(encrypted, in_one(encrypt_content(bytes(16), content_key))),
        "padding of 17": around(encrypted, in_one(encrypt_content(bytes([17]) * 32, content_key))),
        "padding of unequal bytes": around(encrypted, in_one(encrypt_content(bytes(14) + b"\1\2", content_key))),
    }
