"""One conversation with a Nitro Secure Module, and whether a device answers as it should.

The steps are data (tests/vectors/nsm/conversation.json), so that the same ones run against the simulated module, a stub
of libnsm.so, and /dev/nsm inside an enclave, into whose test image this file is copied: it imports nothing of the
simulator. A conversation begins with a module that nobody has used, and locks every register: once per boot.
"""

from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias, assert_never

import msgspec

from pinaivu_enclave.nsm import InvalidResponseError, NsmDescription, NsmDevice, NsmError
from pinaivu_enclave.nsm.timestamp import read_own_payload, read_timestamp_ms

Octets: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2})*(\*[1-9][0-9]*)?$")]
"""Hex; `00*1024` is 1024 zero bytes."""

_REPEATABLE_BYTES: Final = 16  # of random bytes, fewer may come again by chance


class _Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="operation"):
    """What is asked of the device; the tags are the names of `NsmDevice`."""


class Describe(_Call, frozen=True, tag="describe"):
    """`describe()`."""


class DescribePcr(_Call, frozen=True, tag="describe_pcr"):
    """`describe_pcr(index)`."""

    index: int


class ExtendPcr(_Call, frozen=True, tag="extend_pcr"):
    """`extend_pcr(index, data)`."""

    index: int
    data: Octets


class LockPcr(_Call, frozen=True, tag="lock_pcr"):
    """`lock_pcr(index)`."""

    index: int


class LockPcrs(_Call, frozen=True, tag="lock_pcrs"):
    """`lock_pcrs(count)`."""

    count: int


class Attest(_Call, frozen=True, tag="attest"):
    """`attest(...)`."""

    public_key: Octets | None
    user_data: Octets | None
    nonce: Octets | None


class Random(_Call, frozen=True, tag="random"):
    """`random(size)`."""

    size: int


Call: TypeAlias = Describe | DescribePcr | ExtendPcr | LockPcr | LockPcrs | Attest | Random


class _Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="answer"):
    """What may come back."""


class Refusal(_Answer, frozen=True, tag="error"):
    """The exception of this name on the wire."""

    name: str


class Done(_Answer, frozen=True, tag="done"):
    """Nothing: it was done."""


class Description(_Answer, frozen=True, tag="description"):
    """32 registers of SHA-384, these locked; the module's name and version are its own."""

    locked_pcrs: tuple[int, ...]


class Register(_Answer, frozen=True, tag="register"):
    """Locked or not, and the value, or any value where the platform sets it."""

    locked: bool
    value: Octets | None


class Value(_Answer, frozen=True, tag="value"):
    """The register's new value."""

    value: Octets


class Document(_Answer, frozen=True, tag="document"):
    """A document over these registers, whose values are those that the device showed before, and these fields."""

    pcrs: tuple[int, ...]
    public_key: Octets | None
    user_data: Octets | None
    nonce: Octets | None


class RandomBytes(_Answer, frozen=True, tag="random"):
    """So many bytes, not the same twice."""

    size: int


Answer: TypeAlias = Refusal | Done | Description | Register | Value | Document | RandomBytes


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One call and the answers that are allowed, more than one where platforms differ."""

    says: str
    call: Call
    allowed: Annotated[tuple[Answer, ...], msgspec.Meta(min_length=1)]


Outcome: TypeAlias = "NsmDescription | tuple[bool, bytes] | bytes | NsmError | None"


def read_steps(raw: bytes) -> tuple[Step, ...]:
    """The steps of a conversation.json; raises msgspec.DecodeError."""
    return msgspec.json.decode(raw, type=tuple[Step, ...])


def run_conversation(device: NsmDevice, steps: Sequence[Step]) -> list[str]:
    """Hold the conversation and say every deviation; an empty list means that the device conforms."""
    seen = _Seen()
    deviations = []
    for number, step in enumerate(steps):
        outcome = perform(device, step.call)
        reasons = [_deviation(answer, outcome, seen) for answer in step.allowed]
        seen.note(step.call, outcome)
        if all(reasons):
            deviations.append(f"step {number}, {step.says}: {'; or '.join(reasons)}")
    return deviations


def perform(device: NsmDevice, call: Call) -> Outcome:  # noqa: PLR0911  # one for each operation
    """What the device returns or, as a value, the NsmError that it raises."""
    try:
        match call:
            case Describe():
                return device.describe()
            case DescribePcr(index=index):
                return device.describe_pcr(index)
            case ExtendPcr(index=index, data=data):
                return device.extend_pcr(index, octets(data))
            case LockPcr(index=index):
                device.lock_pcr(index)
                return None
            case LockPcrs(count=count):
                device.lock_pcrs(count)
                return None
            case Attest(public_key=public_key, user_data=user_data, nonce=nonce):
                return device.attest(
                    public_key=_optional(public_key), user_data=_optional(user_data), nonce=_optional(nonce)
                )
            case Random(size=size):
                return device.random(size)
            case _:
                assert_never(call)
    except NsmError as error:
        return error


def octets(text: Octets) -> bytes:
    """The bytes that the notation stands for."""
    digits, _, times = text.partition("*")
    return bytes.fromhex(digits) * int(times or 1)


def _optional(text: Octets | None) -> bytes | None:
    return None if text is None else octets(text)


class _Seen:
    """What the device said so far, which later answers must agree with."""

    def __init__(self) -> None:
        self.registers: dict[int, bytes] = {}
        self.random: set[bytes] = set()

    def note(self, call: Call, outcome: Outcome) -> None:
        match call, outcome:
            case (DescribePcr(index=index), (_, bytes(value))) | (ExtendPcr(index=index), bytes(value)):
                self.registers[index] = value
            case Random(), bytes(drawn) if len(drawn) >= _REPEATABLE_BYTES:
                self.random.add(drawn)
            case _:
                pass


def _deviation(answer: Answer, outcome: Outcome, seen: _Seen) -> str:  # noqa: PLR0911  # one for each kind of answer
    """How the outcome differs from this answer; empty if it does not."""
    match answer, outcome:
        case Refusal(name=name), NsmError():
            return "" if outcome.name == name else f"{outcome.name} ({outcome}) instead of {name}"
        case Done(), None:
            return ""
        case Description(), NsmDescription():
            expected = (32, frozenset(answer.locked_pcrs), "SHA384")
            got = (outcome.max_pcrs, outcome.locked_pcrs, outcome.digest)
            return "" if got == expected and outcome.module_id else f"{outcome} instead of {expected}"
        case Register(locked=locked, value=expected_value), (bool(got_locked), bytes(value)):
            return _register_deviation(locked, expected_value, got_locked, value)
        case Value(value=expected_value), bytes(value):
            return "" if value == octets(expected_value) else f"{value.hex()} instead of {expected_value}"
        case RandomBytes(size=size), bytes(drawn):
            return _random_deviation(size, drawn, seen)
        case Document(), bytes(document):
            return _document_deviation(answer, document, seen)
        case _:
            got_kind = f"{outcome.name} ({outcome})" if isinstance(outcome, NsmError) else type(outcome).__name__
            return f"{got_kind} where a {type(answer).__name__} is due"


def _register_deviation(locked: bool, expected: Octets | None, got_locked: bool, value: bytes) -> str:  # noqa: FBT001  # a register's lock beside its value
    if got_locked != locked:
        return f"locked is {got_locked}"
    if expected is not None and value != octets(expected):
        return f"{value.hex()} instead of {expected}"
    return "" if len(value) == 48 else f"a register of {len(value)} bytes"


def _random_deviation(size: int, drawn: bytes, seen: _Seen) -> str:
    if len(drawn) != size:
        return f"{len(drawn)} random bytes instead of {size}"
    return "the same random bytes as before" if drawn in seen.random else ""


def _document_deviation(answer: Document, document: bytes, seen: _Seen) -> str:
    try:
        read_timestamp_ms(document)
        payload = read_own_payload(document)
    except InvalidResponseError as error:
        return str(error)
    for field in ("public_key", "user_data", "nonce"):
        if payload.get(field, b"absent") != _optional(getattr(answer, field)):
            return f"{field} of the document is not what was given"
    pcrs = payload.get("pcrs")
    if not isinstance(pcrs, dict) or sorted(pcrs, key=str) != sorted(answer.pcrs, key=str):
        return f"the document's registers are not {answer.pcrs}"
    differing = [index for index, value in pcrs.items() if seen.registers.get(int(index), value) != value]
    return f"PCRs {differing} have other values in the document than before" if differing else ""
