"""The request an engine gets: checked, cut down to an allow-list, and always a stream with usage and a limit.

Anything that is not on the list would reach a stranger's engine unreviewed; several engines act on keys of their own.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from pinaivu_node.engines.events import EngineError
from pinaivu_shared.commitments import FORWARDED_FIELDS

_OVERWRITTEN: Final = frozenset({"model", "n", "max_tokens", "max_completion_tokens"})
_Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]


class _ImageUrl(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    type: str
    image_url: _ImageUrl | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Request(msgspec.Struct):
    """Types and ranges of what is forwarded (OpenAI's `CreateChatCompletionRequest`)."""

    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    n: Literal[1] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], msgspec.Meta(max_length=4)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None


class EngineRequest(msgspec.Struct, frozen=True):
    """A body that may be sent to an engine, and the most tokens it may answer with.

    `top_logprobs` is how many alternatives of each token are wanted, None for no log-probabilities at all.
    """

    body: dict[str, Any]
    limit: int
    top_logprobs: int | None = None


def engine_request(
    forwarded: Mapping[str, Any], *, model: str, limit: int, extras: Mapping[str, Any], tools: bool = True
) -> EngineRequest:
    """The engine's request for the forwarded part of a caller's request.

    `model` is the engine's own name for it, `limit` the award's in tokens, `extras` what this kind of engine is asked
    beside (`discovery`), `tools` whether it knows tools. EngineError("unsupported_request") says what it cannot take.
    """
    _check(forwarded, tools=tools)
    kept = {name: value for name, value in forwarded.items() if name in FORWARDED_FIELDS - _OVERWRITTEN}
    options = {"include_usage": True, **extras.get("stream_options", {})}
    fixed = {"model": model, "max_tokens": limit, "max_completion_tokens": limit, "stream": True}
    messages = [_with_known_role(message) for message in forwarded["messages"]]
    body = {**kept, **extras, **fixed, "messages": messages, "stream_options": options}
    return EngineRequest(body, limit, (kept.get("top_logprobs") or 0) if kept.get("logprobs") else None)


def _check(forwarded: Mapping[str, Any], *, tools: bool) -> None:
    try:
        request = msgspec.convert(dict(forwarded), _Request)
    except (msgspec.ValidationError, RecursionError) as error:
        raise EngineError("unsupported_request", str(error)) from error
    if request.tools and not tools:
        raise EngineError("unsupported_request", "this model takes no tools")
    for message in request.messages:
        for part in message.content if isinstance(message.content, list) else ():
            if part.image_url and not part.image_url.url.startswith("data:"):
                raise EngineError("unsupported_request", "pictures are taken as data: URLs only")


def _with_known_role(message: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**message, "role": "system"} if message["role"] == "developer" else message
