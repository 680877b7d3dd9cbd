"""What nodes get of a request, by the endpoint that was asked, and how long an answer its caller allows.

The gateway forwards by these functions and whoever verifies a receipt compares by them, so the two cannot drift apart.
"""

from typing import Final, Literal

import msgspec

from pinaivu_shared.commitments import canonical_bytes, forwarded_part
from pinaivu_shared.json_fields import Fields, list_of, place_of, text_of
from pinaivu_shared.response_chat import chat_of_response

Endpoint = Literal["chat", "completions", "embeddings", "responses"]
"""`POST /v1/chat/completions`, `/v1/completions`, `/v1/embeddings` and `/v1/responses`."""

COMPLETION_TOKENS_DEFAULT: Final = 16
"""OpenAI's limit for a text completion that names none, which surprises everybody once."""

_KEYS: Final[dict[Endpoint, str]] = {
    "chat": "messages",
    "completions": "prompt",
    "embeddings": "input",
    "responses": "input",
}
_MEAN_ABSENCE: Final = frozenset({"echo", "suffix", "logprobs"})
"""Whatever of these is let through in a text completion means their absence."""


class Reading(msgspec.Struct, frozen=True):
    """A request as one endpoint reads it: the canonical JSON that nodes get, and `token_limit`."""

    endpoint: Endpoint
    forwarded: bytes
    token_limit: int | None


def forwarded_of(endpoint: Endpoint, body: Fields) -> Fields:
    """What nodes get of a body; TypeError, ValueError or LookupError for one that this endpoint does not take."""
    match endpoint:
        case "chat":
            list_of(body["messages"])
            return _forwarded_as("messages", body)
        case "completions":
            kept = _forwarded_as("prompt", body)
            kept = {name: value for name, value in kept.items() if name not in _MEAN_ABSENCE}
            return kept | {"prompt": _only_text(body["prompt"])}
        case "embeddings":
            return _forwarded_as("input", body) | {"input": _texts(body["input"])}
        case "responses":
            return forwarded_part(chat_of_response(body))


def token_limit(endpoint: Endpoint, forwarded: Fields) -> int | None:
    """Completion tokens that the caller allows for all choices together, None where no limit is named.

    Embeddings have none. TypeError or ValueError for a limit that is no count.
    """
    if endpoint == "embeddings":
        return 0
    names = ("max_tokens",) if endpoint == "completions" else ("max_completion_tokens", "max_tokens")
    named = [place_of(forwarded[name]) for name in names if name in forwarded]
    if endpoint == "completions" and not named:
        named = [COMPLETION_TOKENS_DEFAULT]
    return min(named) * place_of(forwarded.get("n", 1)) if named else None


def readings_of(body: Fields, endpoint: Endpoint | None) -> tuple[Reading, ...]:
    """The body as `endpoint` reads it; where that is not known, as each does that its fields could be meant for."""
    endpoints = _KEYS if endpoint is None else (endpoint,)
    found = [_reading(one, body) for one in endpoints if body.get(_KEYS[one]) is not None]
    return tuple(reading for reading in found if reading is not None)


def _reading(endpoint: Endpoint, body: Fields) -> Reading | None:
    try:
        forwarded = forwarded_of(endpoint, body)
        return Reading(endpoint, canonical_bytes(forwarded), token_limit(endpoint, forwarded))
    except (TypeError, ValueError, LookupError):
        return None


def _forwarded_as(kind: str, body: Fields) -> Fields:
    """A body's one key of these tells what is asked; those of other endpoints mean nothing."""
    others = {"messages", "prompt", "input"} - {kind}
    return {name: value for name, value in forwarded_part(body).items() if name not in others}


def _only_text(prompt: object) -> str:
    match prompt:
        case [one]:
            return text_of(one)
        case _:
            return text_of(prompt)


def _texts(given: object) -> list[str]:
    return [given] if isinstance(given, str) else [text_of(one) for one in list_of(given)]
