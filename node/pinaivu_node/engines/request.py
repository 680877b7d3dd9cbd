"""The request an engine gets: checked, cut down to an allow-list, and with a limit; a generation always as a stream.

Anything that is not on the list would reach a stranger's engine unreviewed; several engines act on keys of their own.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from pinaivu_node.engines.events import EngineError
from pinaivu_node.engines.request_kinds import KINDS, ChatRequest, CompletionRequest, EmbeddingRequest, Kind, Request
from pinaivu_shared.terms import Capability

BLANKS_MAX: Final = 44
"""Tokens that llama.cpp's grammar lets a model write before wanted JSON: twice two lines and twenty blanks."""
_JSON: Final = frozenset({"json_object", "json_schema"})
_LIMITS: Final = ("max_tokens", "max_completion_tokens")


class EngineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A body that may be sent to an engine at `path`, and the most tokens that each of its choices may have.

    `top_logprobs` is how many alternatives of each token are wanted, None for no log-probabilities at all. `inputs` is
    how many vectors are wanted, 0 where none are, each of `dimensions` numbers where that is not 0. `trimmed` says that
    the engine trims what the model writes before its text (`usage`), and so has a limit that leaves room for it.
    """

    path: str
    body: dict[str, Any]
    limit: int = 0
    choices: int = 1
    top_logprobs: int | None = None
    inputs: int = 0
    dimensions: int = 0
    trimmed: bool = False


def engine_request(
    forwarded: Mapping[str, Any],
    *,
    model: str,
    limit: int,
    extras: Mapping[str, Any],
    capabilities: Collection[Capability],
) -> EngineRequest:
    """The engine's request for the forwarded part of a caller's request.

    `model` is the engine's own name for it, `limit` the award's in tokens over all choices, `extras` what this kind of
    engine is asked beside (`discovery`), `capabilities` what the model can do.
    EngineError("unsupported_request") says what it cannot take.
    """
    kind, request = _checked(forwarded, capabilities)
    kept = {name: forwarded[name] for name in kind.shape.__struct_fields__ if name in forwarded}
    if isinstance(request, EmbeddingRequest):
        body = {**kept, "model": model, "encoding_format": "float"}
        dimensions = request.dimensions or 0
        return EngineRequest(path=kind.path, body=body, inputs=request.inputs(), dimensions=dimensions)
    choices = request.n or 1
    if limit < choices:
        raise EngineError("unsupported_request", f"{limit} tokens are too few for {choices} choices")
    trimmed = False
    if isinstance(request, CompletionRequest):
        limits, content, top_logprobs = {"max_tokens": limit // choices}, _content_of_completion(kept, request), None
    else:
        trimmed = "timings_per_token" in extras and not _JSON.isdisjoint(request.needs())
        limits = dict.fromkeys(_LIMITS, limit // choices + trimmed * BLANKS_MAX)
        content = _content_of_chat(kept, capabilities)
        top_logprobs = (request.top_logprobs or 0) if request.logprobs else None
        if top_logprobs is not None:
            content["top_logprobs"] = max(top_logprobs, 1)  # llama.cpp: none at all for 0, twenty where it is left out
    options = {"include_usage": True, **extras.get("stream_options", {})}
    body = {**content, **extras, **limits, "model": model, "stream": True, "stream_options": options}
    return EngineRequest(
        path=kind.path,
        body=body,
        limit=limit // choices,
        choices=choices,
        top_logprobs=top_logprobs,
        trimmed=trimmed,
    )


def with_json_grammar(request: EngineRequest, grammar: str) -> EngineRequest:
    """The request with any JSON object asked for by this grammar, unless that is empty; schemas stay."""
    if not grammar or (request.body.get("response_format") or {}).get("type") != "json_object":
        return request
    body = {name: value for name, value in request.body.items() if name != "response_format"}
    limits = dict.fromkeys(_LIMITS, request.limit)
    return msgspec.structs.replace(request, body={**body, **limits, "grammar": grammar}, trimmed=False)


def _checked(forwarded: Mapping[str, Any], capabilities: Collection[Capability]) -> tuple[Kind, Request]:
    kinds = [kind for kind in KINDS if kind.key in forwarded]
    if len(kinds) != 1:
        raise EngineError("unsupported_request", "exactly one of messages, prompt and input makes a request")
    try:
        request = msgspec.convert(dict(forwarded), kinds[0].shape)
    except (msgspec.ValidationError, RecursionError) as error:
        raise EngineError("unsupported_request", str(error)) from error
    if lacking := sorted(set(request.needs()) - set(capabilities)):
        raise EngineError("unsupported_request", f"this model does not offer {', '.join(lacking)}")
    if isinstance(request, ChatRequest) and not all(url.startswith("data:") for url in request.pictures()):
        raise EngineError("unsupported_request", "pictures are taken as data: URLs only")
    if isinstance(request, CompletionRequest) and (request.echo or request.suffix):
        raise EngineError("unsupported_request", "no engine is asked for echo or suffix: some would ignore it")
    return kinds[0], request


def _content_of_completion(kept: Mapping[str, Any], request: CompletionRequest) -> dict[str, Any]:
    prompt = request.prompt if isinstance(request.prompt, str) else request.prompt[0]
    return {**{name: value for name, value in kept.items() if name not in {"echo", "suffix"}}, "prompt": prompt}


def _content_of_chat(kept: Mapping[str, Any], capabilities: Collection[Capability]) -> dict[str, Any]:
    """`reasoning_effort` is a wish, which an engine may not have."""
    dropped = set() if "reasoning_effort" in capabilities else {"reasoning_effort"}
    messages = [_with_known_role(message) for message in kept["messages"]]
    return {**{name: value for name, value in kept.items() if name not in dropped}, "messages": messages}


def _with_known_role(message: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**message, "role": "system"} if message["role"] == "developer" else message
