"""Canonical JSON: one value, one spelling, so that bytes can be signed and hashed.

RFC 8785 restricted to printable ASCII strings, integers below 2^53, booleans, arrays and objects; no floats, no null.
A reader decodes strictly, encodes again and compares, which refuses spaces, key order, escapes and duplicate keys.
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Hashable
from typing import Annotated, Any, NoReturn, TypeVar, cast

import msgspec

from pinaivu_shared.errors import VerificationError

MAX_CANONICAL_BYTES = 1 << 20

Natural = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Text = Annotated[str, msgspec.Meta(pattern=r"\A[ -~]*\Z", max_length=4096)]
Name = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,255}\Z")]
ShortName = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,64}\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
OptionalDigest = Annotated[str, msgspec.Meta(pattern=r"\A(sha256:[0-9a-f]{64})?\Z")]
Hex = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{2})*\Z", max_length=16384)]
Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]

_Shape = TypeVar("_Shape")
_SURROGATE = re.compile(r"\\u[dD]")
"""How the escape of a surrogate begins; `in` would look at a large text for more than twice as long."""
_encoder = msgspec.json.Encoder(order="sorted")


class CanonicalStruct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of everything that is hashed or signed as canonical JSON."""


def encode(value: object) -> bytes:
    """Canonical bytes of a value made of `CanonicalStruct`s, `Text`, `Natural`, booleans, arrays and objects."""
    return _encoder.encode(value)


def decode(raw: bytes, shape: type[_Shape], *, check: str, max_bytes: int = MAX_CANONICAL_BYTES) -> _Shape:
    """Decode canonical bytes into `shape`, or raise VerificationError(check) for every other spelling."""
    if len(raw) > max_bytes:
        raise VerificationError(check, f"{len(raw)} bytes, at most {max_bytes} are allowed")
    try:
        value: _Shape = _decoder(cast("Hashable", shape)).decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise VerificationError(check, f"not of the expected shape: {error}") from error
    if _encoder.encode(value) != raw:
        raise VerificationError(check, "bytes differ from their canonical form (spaces, order, escapes, duplicates)")
    return value


@functools.cache
def _decoder(shape: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape)


def convert(value: object, shape: type[_Shape], *, check: str) -> _Shape:
    """Give a parsed JSON value the type `shape`, strictly, or raise VerificationError(check)."""
    try:
        return msgspec.convert(value, shape)
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError) as error:
        raise VerificationError(check, f"not of the expected shape: {error}") from error


class DuplicateKeyError(ValueError):
    """A JSON object that names one key twice."""


def parse_json(text: bytes | str) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON as RFC 8785 wants its input: no duplicate keys, no NaN, no infinity, no lone surrogate.

    Raises DuplicateKeyError or ValueError (its parent; also JSONDecodeError and UnicodeDecodeError), RecursionError
    when nested too deeply.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    if _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # fails for half of a pair
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise DuplicateKeyError(f"the key {twice[:64]!r} stands twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:32]} is beyond the range of a double")
    return number
