"""What is said to /dev/nsm and what it says: serde's externally tagged enums in CBOR (nsm-api src/api/mod.rs).

Requests are in the shortest form, which QEMU's device insists on for numbers. Answers may have their keys in any order,
since QEMU and AWS differ, and fields that we do not know, since a newer minor version may add some. Whatever else an
answer is, reading it raises the module's own error or InvalidResponseError, and nothing else.
"""

import io
from collections.abc import Iterator, Mapping
from typing import Final, NoReturn, TypeAlias, TypeVar

import cbor2

from pinaivu_enclave.nsm import NSM_ERRORS, InvalidIndexError, InvalidResponseError, NsmDescription
from pinaivu_shared.attestation.document import MAX_PCRS, PCR_BYTES

MAX_RESPONSE_BYTES: Final = 0x3000  # linux/nsm.h NSM_RESPONSE_MAX_SIZE
MAX_MODULE_ID_BYTES: Final = 100  # of NsmDescription in libnsm

DESCRIBE: Final = cbor2.dumps("DescribeNSM")
RANDOM: Final = cbor2.dumps("GetRandom")

_MAX_DEPTH: Final = 4  # of containers in one another: three in DescribeNSM
_MAX_U16: Final = 0xFFFF

Fields: TypeAlias = "Mapping[object, object]"
T = TypeVar("T", int, str, bytes, bool)


def describe_pcr(index: int) -> bytes:
    """The request DescribePCR."""
    return cbor2.dumps({"DescribePCR": {"index": as_u16(index)}})


def extend_pcr(index: int, data: bytes) -> bytes:
    """The request ExtendPCR."""
    return cbor2.dumps({"ExtendPCR": {"index": as_u16(index), "data": data}})


def lock_pcr(index: int) -> bytes:
    """The request LockPCR."""
    return cbor2.dumps({"LockPCR": {"index": as_u16(index)}})


def lock_pcrs(count: int) -> bytes:
    """The request LockPCRs, which calls the count a range."""
    return cbor2.dumps({"LockPCRs": {"range": as_u16(count)}})


def attest(*, public_key: bytes | None, user_data: bytes | None, nonce: bytes | None) -> bytes:
    """The request Attestation; absent fields are null."""
    return cbor2.dumps({"Attestation": {"user_data": user_data, "nonce": nonce, "public_key": public_key}})


def as_u16(number: int) -> int:
    """The number itself. One that does not fit into the request's 16 bits names no register: InvalidIndexError."""
    if not 0 <= number <= _MAX_U16:
        raise InvalidIndexError(f"{number} is no number of a register, nor of registers")
    return number


def as_pcr(value: bytes) -> bytes:
    """The value itself. One that is no whole register (48 bytes, SHA-384) is no answer: InvalidResponseError."""
    if len(value) != PCR_BYTES:
        _refuse(f"a register of {len(value)} bytes, not {PCR_BYTES}")
    return value


def read_description(answer: bytes) -> NsmDescription:
    """The answer to DescribeNSM."""
    fields = _fields(answer, "DescribeNSM")
    major, minor, patch = (_u16(fields, f"version_{part}") for part in ("major", "minor", "patch"))
    module_id = _field(fields, "module_id", str)
    if not 0 < len(module_id.encode()) <= MAX_MODULE_ID_BYTES:
        _refuse("module_id is empty or too long")
    return NsmDescription(
        version=(major, minor, patch),
        module_id=module_id,
        max_pcrs=_u16(fields, "max_pcrs"),
        locked_pcrs=_locked_pcrs(fields),
        digest=_field(fields, "digest", str),
    )


def read_pcr(answer: bytes) -> tuple[bool, bytes]:
    """The answer to DescribePCR: whether locked, and the value."""
    fields = _fields(answer, "DescribePCR")
    return _field(fields, "lock", bool), as_pcr(_field(fields, "data", bytes))


def read_extended(answer: bytes) -> bytes:
    """The answer to ExtendPCR: the new value."""
    return as_pcr(_field(_fields(answer, "ExtendPCR"), "data", bytes))


def read_locked(answer: bytes) -> None:
    """The answer to LockPCR."""
    _require_bare(answer, "LockPCR")


def read_range_locked(answer: bytes) -> None:
    """The answer to LockPCRs."""
    _require_bare(answer, "LockPCRs")


def read_document(answer: bytes) -> bytes:
    """The answer to Attestation: the document, not looked into."""
    document = _field(_fields(answer, "Attestation"), "document", bytes)
    if not document:
        _refuse("the document is empty")
    return document


def read_random(answer: bytes) -> bytes:
    """The answer to GetRandom: at least one byte, how many is the module's choice."""
    random = _field(_fields(answer, "GetRandom"), "random", bytes)
    if not random:
        _refuse("no random bytes")
    return random


def _refuse(reason: str) -> NoReturn:
    raise InvalidResponseError(reason)


class _NoTags(Mapping[int, object]):
    """Stands in for cbor2's table of tags and knows all of them, as a refusal.

    Tags can make small answers large or slow (shared references, big floats, regular expressions).
    """

    def __getitem__(self, tag: int) -> object:
        return self._refuse

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0

    @staticmethod
    def _refuse(*_: object) -> NoReturn:
        _refuse("a tag")


_NO_TAGS: Final = _NoTags()


def _decode(answer: bytes) -> object:
    """The one CBOR value. Maps of indefinite length are taken: Nitro writes some, and nothing compares answers."""
    if len(answer) > MAX_RESPONSE_BYTES:
        _refuse(f"{len(answer)} bytes, at most {MAX_RESPONSE_BYTES}")
    stream = io.BytesIO(answer)
    decoder = cbor2.CBORDecoder(
        stream,
        semantic_decoders=_NO_TAGS,  # type: ignore[arg-type]  # the stub wants a MutableMapping, the decoder only reads
        max_depth=_MAX_DEPTH,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
    )
    try:
        value: object = decoder.decode()
    except Exception as error:  # the one border to cbor2: whatever it raises, the answer is what is wrong
        raise InvalidResponseError(f"not the CBOR of an answer: {error}") from error
    if stream.tell() != len(answer):
        _refuse(f"{len(answer) - stream.tell()} bytes after the answer")
    return value


def _decode_enum(answer: bytes) -> tuple[str, object]:
    """The variant's name and its content, None for a bare one. An error raises itself."""
    value = _decode(answer)
    if type(value) is str:
        return value, None
    if type(value) is not dict or len(value) != 1:
        _refuse("neither a text nor a map of one entry")
    ((variant, content),) = value.items()
    if type(variant) is not str:
        _refuse("the answer has no name")
    if variant == "Error":
        if type(content) is not str or content not in NSM_ERRORS:
            _refuse("an error of no known name")
        raise NSM_ERRORS[content]("the module refused")
    return variant, content


def _fields(answer: bytes, expected: str) -> Fields:
    variant, content = _decode_enum(answer)
    if variant != expected or type(content) is not dict:
        _refuse(f"no answer to {expected}, but {variant[:40]!r}")
    return content


def _require_bare(answer: bytes, expected: str) -> None:
    variant, content = _decode_enum(answer)
    if variant != expected or content is not None:
        _refuse(f"no answer to {expected}, but {variant[:40]!r}")


def _field(fields: Fields, name: str, kind: type[T]) -> T:
    """The field, of exactly this type: Python's True is an int."""
    value = fields.get(name)
    if type(value) is not kind:
        _refuse(f"{name} is absent or not {kind.__name__}")
    return value


def _u16(fields: Fields, name: str) -> int:
    number = _field(fields, name, int)
    if not 0 <= number <= _MAX_U16:
        _refuse(f"{name} does not fit into 16 bits")
    return number


def _locked_pcrs(fields: Fields) -> frozenset[int]:
    indices = fields.get("locked_pcrs")
    if type(indices) is not list:
        _refuse("locked_pcrs is absent or not an array")
    if len(indices) > MAX_PCRS or any(type(index) is not int or not 0 <= index < MAX_PCRS for index in indices):
        _refuse("locked_pcrs names what is no register")
    return frozenset(indices)
