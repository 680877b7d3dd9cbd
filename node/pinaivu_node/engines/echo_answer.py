"""What the echo engine answers with: a function of the request and the settings.

A piece is a word with the space after it, and counts as a token. Each further choice begins one piece later, so that
choices differ.
"""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from pinaivu_node.engines.echo_schema import minimal_value
from pinaivu_node.engines.echo_settings import Fault

_PIECE: Final = re.compile(r"\s*\S+\s*|\s+")
NO_FAULT: Final = Fault()
Count = Annotated[int, msgspec.Meta(ge=1, le=128)]


class GenerationBody(msgspec.Struct, kw_only=True):
    """What is read of a chat or a completion."""

    stream: bool = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: Count = 1
    top_logprobs: int = 0
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    stop: str | list[str] | None = None


class ChatBody(GenerationBody, kw_only=True):
    """What is read of a chat."""

    messages: list[Any]
    logprobs: bool | None = None


class CompletionBody(GenerationBody, kw_only=True):
    """What is read of a completion."""

    prompt: str


class EchoAnswer(NamedTuple):
    """Pieces by choice, or a function to call with arguments; why they end; usage at the beginning and the end.

    `top_logprobs` is how many alternatives each piece has, None for no log-probabilities.
    """

    choices: list[list[str]]
    call: str
    arguments: str
    finish_reason: str
    first_usage: dict[str, int] | None
    usage: dict[str, int] | None
    top_logprobs: int | None
    fault: Fault


def echo_answer(body: ChatBody | CompletionBody, words: list[str], fault: Fault) -> EchoAnswer:
    """The answer to this request, with `words` where there are any; a request for one token meets no fault."""
    limits = [limit for limit in (body.max_tokens, body.max_completion_tokens) if limit is not None]
    limit = max(min(limits), 0) if limits else None
    fault = NO_FAULT if limit == 1 else fault
    call, arguments = _called(body)
    whole = [""] if call else _answered(body) or _until_stop(words or _PIECE.findall(_asked(body)), body.stop)
    pieces = whole[:limit]
    reason = "length" if len(pieces) < len(whole) else "tool_calls" if call else "stop"
    choices = [_turned(whole, index)[:limit] for index in range(body.n)] if body.n > 1 else [pieces]
    options = body.stream_options or {}
    prompt_tokens = len(_prompt(body).split())
    first = usage_of(prompt_tokens, 0, fault) if options.get("continuous_usage_stats") is True else None
    wanted = not body.stream or options.get("include_usage") is True
    usage = usage_of(prompt_tokens, len(pieces) * body.n, fault) if wanted else None
    top = body.top_logprobs if isinstance(body, ChatBody) and body.logprobs else None
    return EchoAnswer(choices, call if pieces else "", arguments, reason, first, usage, top, fault)


def usage_of(prompt_tokens: int, completion_tokens: int, fault: Fault) -> dict[str, int] | None:
    """What is said to have been counted."""
    if fault.kind == "no_usage":
        return None
    if fault.kind == "zero_usage":
        prompt_tokens = completion_tokens = 0
    if fault.kind == "inflated_usage":
        prompt_tokens, completion_tokens = prompt_tokens * 10 + 1000, completion_tokens * 10 + 1000
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def _called(body: ChatBody | CompletionBody) -> tuple[str, str]:
    """The function that must be called and the least arguments it takes; empty where none must."""
    functions = [tool.get("function", {}) for tool in body.tools or ()]
    wanted = body.tool_choice.get("function", {}).get("name") if isinstance(body.tool_choice, dict) else None
    for function in functions:
        if function.get("name") and (body.tool_choice == "required" or function["name"] == wanted):
            return str(function["name"]), json.dumps(minimal_value(function.get("parameters")))
    return "", ""


def _answered(body: ChatBody | CompletionBody) -> list[str]:
    """The answer that the wanted format allows, as one piece; empty where text is wanted."""
    wanted = body.response_format or {}
    match wanted.get("type"):
        case "json_object":
            return ["{}"]
        case "json_schema":
            return [json.dumps(minimal_value(wanted.get("json_schema", {}).get("schema") or {}))]
        case _:
            return []


def _until_stop(pieces: list[str], stop: str | list[str] | None) -> list[str]:
    """The pieces up to the first of the stop sequences, which may begin inside a piece."""
    text = "".join(pieces) if stop else ""
    found = [text.find(one) for one in ([stop] if isinstance(stop, str) else stop or ()) if one in text]
    return _PIECE.findall(text[: min(found)]) if found else pieces


def _turned(pieces: Sequence[str], index: int) -> list[str]:
    start = index % len(pieces) if pieces else 0
    return [*pieces[start:], *pieces[:start]]


def _asked(body: ChatBody | CompletionBody) -> str:
    """What is repeated."""
    if isinstance(body, CompletionBody):
        return body.prompt
    users = [message for message in body.messages if isinstance(message, dict) and message.get("role") == "user"]
    return _text(users[-1]) if users else ""


def _prompt(body: ChatBody | CompletionBody) -> str:
    """What counts as the prompt."""
    return body.prompt if isinstance(body, CompletionBody) else " ".join(map(_text, body.messages))


def _text(message: object) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
