"""Settings of the echo engine, read from one line of text: `tokens=64,token_interval_ms=10,fault=hang_after_tokens:3`.

| key | meaning | default |
|---|---|---|
| tokens | answer with this many words; 0 answers with the last user message | 0 |
| first_token_ms | wait before the first piece | 0 |
| token_interval_ms | wait between two pieces | 0 |
| fault | what goes wrong with every request for more than one token (requests for one are readiness probes) | none |
"""

import re
from typing import Annotated, Final, Literal, get_args

import msgspec

from pinaivu_shared.errors import CallerError

FaultKind = Literal[
    "none",
    "refuse",
    "disconnect_before_first_token",
    "disconnect_after_tokens",
    "error_after_tokens",
    "hang_before_first_token",
    "hang_after_tokens",
    "no_usage",
    "zero_usage",
    "inflated_usage",
    "split_utf8",
]
_COUNTED: Final = frozenset({"disconnect_after_tokens", "error_after_tokens", "hang_after_tokens"})
_FAULT: Final = re.compile(r"([a-z0-9_]+)(?::([0-9]{1,7}))?")
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=86_400_000)]


class Fault(msgspec.Struct, frozen=True):
    """What goes wrong, and after how many pieces for the kinds that end in `after_tokens`."""

    kind: FaultKind = "none"
    after_tokens: int = 0


class EchoSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the echo engine behaves; times in milliseconds."""

    tokens: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    first_token_ms: Milliseconds = 0
    token_interval_ms: Milliseconds = 0
    fault: Fault = Fault()


def parse_echo_settings(text: str) -> EchoSettings:
    """Settings from comma-separated `key=value` pairs, empty text for the defaults; CallerError names what is wrong."""
    found: dict[str, int | Fault] = {}
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.strip().partition("=")
        if not equals or key not in EchoSettings.__struct_fields__:
            raise CallerError(f"echo: {pair!r} is not one of {', '.join(EchoSettings.__struct_fields__)} with a value")
        if key in found:
            raise CallerError(f"echo: {key} is given twice")
        found[key] = _fault(value) if key == "fault" else _number(key, value)
    try:
        return msgspec.convert(found, EchoSettings)
    except msgspec.ValidationError as error:
        raise CallerError(f"echo: {error}") from error


def _number(key: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 9:
        raise CallerError(f"echo: {key}={value!r} is not a whole number")
    return int(value)


def _fault(value: str) -> Fault:
    match = _FAULT.fullmatch(value)
    if match is None or match[1] not in get_args(FaultKind):
        raise CallerError(f"echo: fault {value!r} is not one of {', '.join(get_args(FaultKind))}")
    if (match[1] in _COUNTED) != (match[2] is not None):
        raise CallerError(f"echo: fault {match[1]} takes {'a' if match[1] in _COUNTED else 'no'} count (`kind:N`)")
    return Fault(msgspec.convert(match[1], FaultKind), int(match[2] or 0))
