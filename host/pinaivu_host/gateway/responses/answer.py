"""`POST /v1/responses`: what a body asks for, and the `response` object that answers it (OpenAI's reference).

Nothing is stored: `store` is always false in the answer.
"""

from dataclasses import dataclass
from typing import Any, Final

from pinaivu_host.gateway.answer import Answer
from pinaivu_host.gateway.ask import Ask
from pinaivu_host.gateway.chat_request import read_chat_request
from pinaivu_host.gateway.chat_rules import check_chat, needs_of
from pinaivu_host.gateway.envelope import Envelope
from pinaivu_host.gateway.parameter_names import ParameterNames
from pinaivu_host.gateway.responses.chat import read_chat_body
from pinaivu_host.gateway.responses.request import MOVED, ResponsesRequest
from pinaivu_host.gateway.responses.stream import ResponsesWriter
from pinaivu_host.gateway.validation import check_moved, read_request
from pinaivu_shared.commitments import forwarded_part
from pinaivu_shared.forwarding import token_limit
from pinaivu_shared.receipt import Receipt

ECHOED: Final[dict[str, Any]] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "tool_choice": "auto",
    "temperature": 1.0,
    "top_p": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "top_logprobs": 0,
    "metadata": {},
    "prompt_cache_key": None,
    "safety_identifier": None,
    "user": None,
}
"""What the answer repeats of the request as it was sent, and what it says where that was left out.

Each must be there: Open Responses (openresponses.org) requires them all, and its compliance tests look.
"""
TOOL: Final[dict[str, Any]] = {"description": None, "parameters": None, "strict": None}
"""What a tool is shown with where the request does not say."""
JSON_SCHEMA: Final[dict[str, Any]] = {"description": None, "strict": False}
"""The same for a format of type `json_schema`."""


NAMES: Final = ParameterNames(content="input", format="text.format", logprobs="include")


def read_response(body: dict[str, Any]) -> Ask:
    """The answer that a body asks for; ApiError (400, 422)."""
    asked = read_request(ResponsesRequest, body)
    check_moved({name: value for name, value in body.items() if (name, value) != ("n", 1)}, MOVED)
    chat_body = read_chat_body(asked, body)
    chat = read_chat_request(chat_body)
    check_chat(chat)
    forwarded, with_logprobs = forwarded_part(chat_body), bool(chat.logprobs)
    return Ask(
        model=asked.model,
        forwarded=forwarded,
        needs=needs_of(chat),
        shape=ResponsesShape(_settings(asked, body), with_logprobs=with_logprobs),
        max_tokens=token_limit("responses", forwarded) or 0,
        stream=bool(asked.stream),
        keeps_logprobs=with_logprobs,
        names=NAMES,
    )


def _settings(asked: ResponsesRequest, body: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: default if body.get(name) is None else body[name] for name, default in ECHOED.items()},
        "tools": [{**TOOL, **tool} for tool in body.get("tools") or ()],
        "text": _text(body.get("text") or {}),
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": asked.reasoning.effort if asked.reasoning else None, "summary": None},
        "store": False,
        "truncation": "disabled",
        "background": False,
    }


def _text(given: dict[str, Any]) -> dict[str, Any]:
    text = {"format": {"type": "text"}, **_there(given)}
    if text["format"]["type"] == "json_schema":
        text["format"] = {**JSON_SCHEMA, **_there(text["format"])}
    return text


def _there(given: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in given.items() if one is not None}


@dataclass(frozen=True, slots=True)
class ResponsesShape:
    """`settings` is what the answer repeats of the request."""

    settings: dict[str, Any]
    with_logprobs: bool

    def writer(self, envelope: Envelope) -> ResponsesWriter:
        """Events."""
        return ResponsesWriter(envelope, self.settings, with_logprobs=self.with_logprobs)

    def whole(self, envelope: Envelope, answer: Answer, receipt: Receipt) -> dict[str, Any]:
        """The `response` object: what the last event of a stream has, too."""
        writer = ResponsesWriter(envelope, self.settings, with_logprobs=self.with_logprobs)
        return writer.response_of(answer, receipt)

    def holds(self, _answer: Answer) -> bool:
        """Any text and any calls can be shown."""
        return True
