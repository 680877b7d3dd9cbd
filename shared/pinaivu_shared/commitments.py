"""Commitments: what a receipt says about a request and its answer without showing either (DESIGN section 5).

SHA-256("pinaivu/<request|forwarded|response>/v1" NUL || 32-byte salt || RFC 8785 of the value). The salt is
fresh per request and goes to the caller only, so a public log does not allow guessing prompts.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec
import rfc8785

from pinaivu_shared.errors import VerificationError
from pinaivu_shared.forwarded_members import forwarded_value

SALT_BYTES: Final = 32
_INTEGER_MAX: Final = 2**53 - 1
_WRITTEN_ALIKE: Final = frozenset({str, bool, type(None)})
_encode: Final = msgspec.json.Encoder(order="sorted").encode

FORWARDED_FIELDS: Final = frozenset({
    "model", "messages", "max_completion_tokens", "max_tokens", "temperature", "top_p", "n", "stop", "seed",
    "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "response_format", "tools", "tool_choice",
    "parallel_tool_calls", "reasoning_effort", "prompt", "suffix", "echo", "input", "dimensions",
})  # fmt: skip
"""What of a request a node gets to see; the rest (end users' identifiers, storage hints) stays at the gateway."""


def request_commitment(body: Mapping[str, Any], salt: bytes) -> str:
    """Commitment to a whole parsed request body, as the caller sent it."""
    return commitment("request", canonical_bytes(body), salt)


def forwarded_commitment(body: Mapping[str, Any], salt: bytes) -> str:
    """Commitment to the part of a request that the node receives: `forwarded_part(body)`."""
    return commitment("forwarded", canonical_bytes(body), salt)


def response_commitment(choices: Iterable[Mapping[str, Any]], salt: bytes) -> str:
    """Commitment to an answer's choices, streamed or not; only `canonical_choices` of them count."""
    return commitment("response", canonical_bytes(canonical_choices(choices)), salt)


def commitment(kind: Literal["request", "forwarded", "response"], canonical: bytes, salt: bytes) -> str:
    """Commitment to a value in canonical form; VerificationError("commitment") for a salt of another length."""
    if len(salt) != SALT_BYTES:
        raise VerificationError("commitment", f"the salt has {len(salt)} bytes instead of {SALT_BYTES}")
    domain = b"pinaivu/" + kind.encode() + b"/v1\0"
    return "sha256:" + hashlib.sha256(domain + salt + canonical).hexdigest()


def forwarded_part(body: Mapping[str, Any]) -> dict[str, Any]:
    """The allow-listed, non-null fields of a request body, and of their values what `forwarded_members` lists."""
    kept = [name for name, value in body.items() if name in FORWARDED_FIELDS and value is not None]
    return {name: forwarded_value(name, body[name]) for name in kept}


def canonical_choices(choices: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What of each choice is committed to: index, finish_reason, and role, content and tool_calls of the message.

    Absent, null and empty values of the message are left out; an answer without tool calls always has its content.
    """
    return [
        {
            "index": choice["index"],
            "message": _canonical_message(choice["message"]),
            "finish_reason": choice.get("finish_reason"),
        }
        for choice in sorted(choices, key=lambda choice: int(choice["index"]))
    ]


def canonical_bytes(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """RFC 8785 bytes of any JSON value; VerificationError("commitment") for what RFC 8785 cannot express."""
    try:
        return _encode(_with_parts_written(value))
    except (rfc8785.CanonicalizationError, TypeError, ValueError, RecursionError) as error:
        raise VerificationError("commitment", f"no canonical form: {error}") from None


def _with_parts_written(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The value, with those parts written by rfc8785 that msgspec writes otherwise: floats, and names beyond ASCII.

    The rest, texts above all, is the same by both, and many times quicker by msgspec.
    """
    kind = type(value)
    if kind in _WRITTEN_ALIKE or (kind is int and -_INTEGER_MAX <= value <= _INTEGER_MAX):
        return value
    if kind is dict and all(map(str.isascii, value)):
        return dict(zip(value, map(_with_parts_written, value.values()), strict=True))
    if kind is list:
        return list(map(_with_parts_written, value))
    return msgspec.Raw(rfc8785.dumps(value))


def _canonical_message(message: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {"role": "assistant"}
    if message.get("tool_calls"):
        kept["tool_calls"] = message["tool_calls"]
    if message.get("content") or "tool_calls" not in kept:
        kept["content"] = message.get("content") or ""
    return kept
