"""`CiphertextForRecipient`: the CMS EnvelopedData in which KMS hands a secret to an attested RSA-2048 key.

KMS writes it in BER with indefinite lengths (RFC 5652 6.1, X.690 8.1.3.6), which DER-only libraries refuse. This reads
exactly the one shape that KMS writes (AWS Nitro Enclaves SDK for C, `cms.c` and its vectors) and nothing else: every
byte outside the four holes is compared. The holes are the key identifier, whose derivation AWS does not document and
which is therefore ignored, the encrypted key, the IV and the encrypted content.

CBC has no integrity. What vouches for an envelope is the TLS connection it came through.
"""

import contextlib
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.padding import PKCS7

from pinaivu_enclave.kms.failure import AttemptError

MAX_ENVELOPE_BYTES: Final = 16_384
MAX_CIPHERTEXT_BYTES: Final = 4112  # 4096 bytes, the most that KMS encrypts, and their padding
KEY_IDENTIFIER_BYTES: Final = 32
ENCRYPTED_KEY_BYTES: Final = 256  # RSA-2048
IV_BYTES: Final = 16

_END: Final = bytes(2)  # end-of-contents
_BEFORE_KEY_IDENTIFIER: Final = bytes.fromhex(
    "3080 06092a864886f70d010703"  # ContentInfo: id-envelopedData
    "a080 3080 020102"  # EnvelopedData, version 2
    "3182016b 30820167 020102"  # one KeyTransRecipientInfo, version 2
    "8020"  # rid: subjectKeyIdentifier
)
_BEFORE_ENCRYPTED_KEY: Final = bytes.fromhex(
    "303c 06092a864886f70d010107 302f"  # id-RSAES-OAEP and its parameters
    "a00f 300d 0609608648016503040201 0500"  # hash: SHA-256
    "a11c 301a 06092a864886f70d010108 300d 0609608648016503040201 0500"  # mask: MGF1 with SHA-256; empty label
    "04820100"
)
_BEFORE_IV: Final = bytes.fromhex(
    "3080 06092a864886f70d010701"  # EncryptedContentInfo: id-data
    "301d 060960864801650304012a 0410"  # AES-256-CBC
)
_CONTENT_IN_PARTS: Final = bytes.fromhex("a080")  # [0] constructed: octet strings to be joined
_CONTENT_IN_ONE: Final = bytes.fromhex("80")  # [0] primitive
_OCTET_STRING: Final = bytes.fromhex("04")
_OAEP: Final = padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)


class EnvelopeError(AttemptError):
    """The envelope does not open. It never says why: a reason would be a padding oracle."""

    def __init__(self) -> None:
        super().__init__(
            "kms", "envelope", "CiphertextForRecipient does not open with the key that was attested", may_pass=False
        )


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is in the holes: 256 bytes, 16 bytes, and a multiple of 16 bytes up to 4112."""

    encrypted_key: bytes
    iv: bytes
    ciphertext: bytes


def parse_envelope(raw: bytes) -> Envelope:
    """The parts of an envelope; EnvelopeError for all other bytes."""
    with contextlib.suppress(ValueError):
        return _parse(raw)
    raise EnvelopeError


def open_envelope(raw: bytes, key: RSAPrivateKey) -> bytes:
    """What KMS encrypted to this RSA-2048 key; EnvelopeError, always the same one, where it did not."""
    with contextlib.suppress(ValueError):
        return _decrypt(_parse(raw), key)
    raise EnvelopeError


class _Reader:
    """Takes bytes from the front. ValueError, which does not leave this file, where others stand there."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._position = raw, 0

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._raw):
            raise ValueError("short")
        taken, self._position = self._raw[self._position : end], end
        return taken

    def expect(self, constant: bytes) -> None:
        if self.take(len(constant)) != constant:
            raise ValueError("shape")

    def accept(self, constant: bytes) -> bool:
        if not self._raw.startswith(constant, self._position):
            return False
        self._position += len(constant)
        return True

    def take_with_length(self) -> bytes:
        """A definite length, 1 to 65,535 in its shortest form, and that many bytes (X.690 8.1.3, 10.1)."""
        first = self.take(1)[0]
        if first < 0x80:
            size, least = first, 1
        elif first in {0x81, 0x82}:
            size, least = int.from_bytes(self.take(first - 0x80)), 0x80 if first == 0x81 else 0x100
        else:
            raise ValueError("length")
        if size < least:
            raise ValueError("length")
        return self.take(size)

    def finish(self) -> None:
        if self._position != len(self._raw):
            raise ValueError("trailing bytes")


def _parse(raw: bytes) -> Envelope:
    if len(raw) > MAX_ENVELOPE_BYTES:
        raise ValueError("size")
    reader = _Reader(raw)
    reader.expect(_BEFORE_KEY_IDENTIFIER)
    reader.take(KEY_IDENTIFIER_BYTES)
    reader.expect(_BEFORE_ENCRYPTED_KEY)
    encrypted_key = reader.take(ENCRYPTED_KEY_BYTES)
    reader.expect(_BEFORE_IV)
    iv = reader.take(IV_BYTES)
    ciphertext = _read_content(reader)
    reader.expect(_END * 4)  # of EncryptedContentInfo, EnvelopedData, [0] and ContentInfo
    reader.finish()
    if len(ciphertext) > MAX_CIPHERTEXT_BYTES or len(ciphertext) % IV_BYTES:
        raise ValueError("content")
    return Envelope(encrypted_key, iv, ciphertext)


def _read_content(reader: _Reader) -> bytes:
    if not reader.accept(_CONTENT_IN_PARTS):
        reader.expect(_CONTENT_IN_ONE)
        return reader.take_with_length()
    parts: list[bytes] = []
    while not parts or not reader.accept(_END):
        reader.expect(_OCTET_STRING)
        parts.append(reader.take_with_length())
    return b"".join(parts)


def _decrypt(envelope: Envelope, key: RSAPrivateKey) -> bytes:
    content_key = key.decrypt(envelope.encrypted_key, _OAEP)
    decryptor = Cipher(algorithms.AES256(content_key), modes.CBC(envelope.iv)).decryptor()
    padded = decryptor.update(envelope.ciphertext) + decryptor.finalize()
    unpadder = PKCS7(algorithms.AES256.block_size).unpadder()
    return unpadder.update(padded) + unpadder.finalize()
