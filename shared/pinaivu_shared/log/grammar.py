"""What the text formats of the log have in common: characters, decimals, base64 (C2SP signed-note, tlog-*).

Each value has one spelling here. A second one would let two readers disagree about what was signed.
"""

import base64
import re

from pinaivu_shared.errors import VerificationError
from pinaivu_shared.log.merkle import HASH_BYTES, SIZE_MAX

# str.isdigit and int also take digits of other scripts, underscores, spaces and signs.
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f]")


def read_text(check: str, raw: str | bytes, *, bytes_max: int) -> str:
    """Text of at most `bytes_max` bytes of valid UTF-8, in which the newline is the only control character.

    Raises:
        VerificationError: under the name `check`.

    """
    try:
        encoded = raw.encode() if isinstance(raw, str) else bytes(raw)
        text = encoded.decode()
    except (
        UnicodeEncodeError,
        UnicodeDecodeError,
    ) as error:  # a lone surrogate on the way out, bad bytes on the way in
        raise VerificationError(check, f"is not valid UTF-8: {error.reason}") from error
    if len(encoded) > bytes_max:
        raise VerificationError(check, f"{len(encoded)} bytes, at most {bytes_max}")
    if found := _FORBIDDEN.search(text):
        raise VerificationError(check, f"control character {found.group()!r} at {found.start()}")
    return text


def read_decimal(check: str, text: str) -> int:
    """ASCII decimal without sign or leading zero, 0 to 2**63-1.

    Raises:
        VerificationError: under the name `check`.

    """
    if not _DECIMAL.fullmatch(text) or int(text) > SIZE_MAX:
        raise VerificationError(check, f"{text[:32]!r} is not a decimal from 0 to 2**63-1")
    return int(text)


def read_base64(check: str, text: str) -> bytes:
    """Bytes whose only base64 spelling (RFC 4648 4, padded, unused bits zero) this is.

    Raises:
        VerificationError: under the name `check`.

    """
    decoded = read_loose_base64(check, text)
    if write_base64(decoded) != text:
        raise VerificationError(check, f"{text[:64]!r} is not the canonical base64")
    return decoded


def read_loose_base64(check: str, text: str) -> bytes:
    """Bytes of a base64 text as Go reads it: unused bits may be set, so one value has several spellings.

    Raises:
        VerificationError: under the name `check`.

    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error, and plain ValueError for what is not ASCII
        raise VerificationError(check, f"{text[:64]!r} is not base64: {error}") from error


def read_hash(check: str, text: str) -> bytes:
    """SHA-256 value in its only base64 spelling, 44 characters for 32 bytes.

    Raises:
        VerificationError: under the name `check`.

    """
    decoded = read_base64(check, text)
    if len(decoded) != HASH_BYTES:
        raise VerificationError(check, f"a hash of {len(decoded)} bytes instead of {HASH_BYTES}")
    return decoded


def write_base64(raw: bytes) -> str:
    """Canonical base64 of bytes (RFC 4648 4)."""
    return base64.b64encode(raw).decode("ascii")
