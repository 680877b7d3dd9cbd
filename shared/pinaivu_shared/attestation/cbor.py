"""Strict reader of the small part of CBOR that attestation documents are made of (RFC 8949).

Unsigned integers, byte strings, text, arrays, maps with integer or text keys, and null: each in its shortest form
and of definite length. Tags, floats, booleans, `undefined`, negative integers, duplicate keys and bytes after the
end are refused where they stand, so one value has one spelling.

Not a general decoder followed by a re-encoding and a comparison: shared references (tags 28 and 29) let 222 bytes
decode into a value whose encoding takes a minute and a hundred megabytes.
"""

from typing import Final, NoReturn, TypeAlias

from pinaivu_shared.errors import VerificationError

CHECK: Final = "attestation document"

CborValue: TypeAlias = "int | bytes | str | list[CborValue] | dict[int | str, CborValue] | None"

_MAX_DEPTH: Final = 4
_NULL: Final = 0xF6
_INDEFINITE_MAP: Final = 0xBF
_BREAK: Final = 0xFF


def decode(raw: bytes) -> CborValue:
    """The one value that `raw` spells, or VerificationError("attestation document")."""
    reader = _Reader(raw)
    value = reader.value(_MAX_DEPTH)
    reader.end()
    return value


def decode_map(raw: bytes) -> dict[int | str, CborValue]:
    """The one map that `raw` spells; its own length, and nothing inside it, may be indefinite (`bf … ff`).

    Nitro wrote payloads with definite length until 2025 and writes them with indefinite length since.
    """
    reader = _Reader(raw)
    if raw[:1] == bytes([_INDEFINITE_MAP]):
        entries = reader.indefinite_map(_MAX_DEPTH)
        reader.end()
        return entries
    value = reader.value(_MAX_DEPTH)
    reader.end()
    if not isinstance(value, dict):
        _refuse("payload is not a map")
    return value


def _refuse(reason: str) -> NoReturn:
    raise VerificationError(CHECK, reason)


class _Reader:
    """A position in the bytes; every method takes what it names or raises VerificationError."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._position = raw, 0

    def value(self, depth: int) -> CborValue:
        if depth == 0:
            _refuse(f"CBOR nested too deeply at byte {self._position}")
        if self._peek() == _NULL:
            self._take(1)
            return None
        major, argument = self._head()
        match major:
            case 0:
                return argument
            case 2:
                return self._take(argument)
            case 3:
                return self._text(argument)
            case 4:
                return [self.value(depth - 1) for _ in range(argument)]
            case 5:
                entries: dict[int | str, CborValue] = {}
                for _ in range(argument):
                    self._entry(entries, depth)
                return entries
            case _:
                _refuse(f"CBOR item of major type {major} before byte {self._position}")

    def indefinite_map(self, depth: int) -> dict[int | str, CborValue]:
        self._take(1)
        entries: dict[int | str, CborValue] = {}
        while self._peek() != _BREAK:
            self._entry(entries, depth)
        self._take(1)
        return entries

    def end(self) -> None:
        if self._position != len(self._raw):
            _refuse(f"{len(self._raw) - self._position} bytes after the end of the CBOR value")

    def _entry(self, entries: dict[int | str, CborValue], depth: int) -> None:
        key = self.value(1)
        if not isinstance(key, int | str):
            _refuse(f"CBOR map key is neither integer nor text before byte {self._position}")
        if key in entries:
            _refuse(f"CBOR map key {str(key)[:40]!r} occurs twice")
        entries[key] = self.value(depth - 1)

    def _head(self) -> tuple[int, int]:
        """Major type and argument (RFC 8949 3), the argument in its shortest form only (4.2.1)."""
        initial = self._take(1)[0]
        major, short = initial >> 5, initial & 0x1F
        if short < 24:
            return major, short
        if short > 27:
            _refuse(f"CBOR item 0x{initial:02x} of indefinite or reserved length before byte {self._position}")
        size = 1 << (short - 24)
        argument = int.from_bytes(self._take(size), "big")
        if argument < (24 if size == 1 else 1 << (4 * size)):
            _refuse(f"CBOR argument not in its shortest form before byte {self._position}")
        return major, argument

    def _text(self, size: int) -> str:
        encoded = self._take(size)
        try:
            return encoded.decode("utf-8")
        except UnicodeDecodeError:
            _refuse(f"CBOR text is not UTF-8 before byte {self._position}")

    def _peek(self) -> int:
        if self._position >= len(self._raw):
            _refuse("CBOR ends too early")
        return self._raw[self._position]

    def _take(self, size: int) -> bytes:
        if size > len(self._raw) - self._position:
            _refuse("CBOR ends too early")
        self._position += size
        return self._raw[self._position - size : self._position]
