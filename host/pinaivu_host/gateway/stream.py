"""The bytes of a stream: server-sent events with OpenAI's chunks, one per line, each ended by an empty line.

Templates are encoded once for each answer. U+2028, U+2029 and U+0085 are escaped: clients that split at them would cut
the JSON in two.
"""

from typing import Any, Final

import msgspec

from pinaivu_host.gateway.answer import shown_logprobs
from pinaivu_host.gateway.envelope import Envelope
from pinaivu_shared.wire.node import Delta, ToolCallDelta

CONTENT_TYPE: Final = "text/event-stream; charset=utf-8"
HEADERS: Final = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))
KEEP_ALIVE: Final = b": keep-alive\n\n"
DONE: Final = b"data: [DONE]\n\n"
_encode: Final = msgspec.json.Encoder().encode


class ChunkWriter:
    """Writes the chunks of one answer. `with_usage` puts `usage: null` on all but the last."""

    def __init__(self, envelope: Envelope, *, with_usage: bool, with_logprobs: bool) -> None:
        self._head = b"data: " + envelope.head("chat.completion.chunk") + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if with_usage else b"]}\n\n"
        self._with_usage, self._with_logprobs = with_usage, with_logprobs
        self._text_head = self._head + b'{"index":0,"delta":{"content":'
        self._text_tail = b'},"finish_reason":null}' + self._tail
        self._calls_begun: set[int] = set()

    def role(self) -> bytes:
        """The first chunk."""
        return self._chunk({"role": "assistant", "content": ""}, None)

    def delta(self, delta: Delta) -> bytes:
        """A piece of the answer, empty where nothing of it is shown; its finish_reason is not written here."""
        logprobs = shown_logprobs(delta) if self._with_logprobs else []
        if delta.content and not delta.tool_calls and not logprobs:
            return self._text_head + one_line(_encode(delta.content)) + self._text_tail
        if not (delta.content or delta.tool_calls or logprobs):
            return b""
        shown: dict[str, Any] = {}
        if delta.content or not delta.tool_calls:
            shown["content"] = delta.content
        if delta.tool_calls:
            shown["tool_calls"] = [self._tool_call(piece) for piece in delta.tool_calls]
        return self._chunk(shown, None, {"content": logprobs, "refusal": None} if logprobs else None)

    def finish(self, reason: str, *, prompt_tokens: int, completion_tokens: int) -> bytes:
        """The finish chunk, the usage chunk if asked for, and the end."""
        last = self._chunk({}, reason)
        if self._with_usage:
            last += self._head + b'],"usage":' + _encode(usage_of(prompt_tokens, completion_tokens)) + b"}\n\n"
        return last + DONE

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None, logprobs: object = None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "delta": delta}
        if logprobs is not None:
            choice["logprobs"] = logprobs
        choice["finish_reason"] = finish_reason
        return self._head + one_line(_encode(choice)) + self._tail

    def _tool_call(self, piece: ToolCallDelta) -> dict[str, Any]:
        """The first piece of a call carries id, type and name, the later ones arguments only."""
        if piece.index in self._calls_begun:
            return {"index": piece.index, "function": {"arguments": piece.arguments}}
        self._calls_begun.add(piece.index)
        function = {"name": piece.name, "arguments": piece.arguments}
        return {"index": piece.index, "id": piece.id, "type": "function", "function": function}


def error_event(body: bytes) -> bytes:
    """The event that ends a stream which broke; nothing follows it, no finish_reason and no [DONE]."""
    return b"data: " + one_line(body) + b"\n\n"


def usage_of(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """The `usage` object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def one_line(encoded: bytes) -> bytes:
    """Encoded JSON without the characters at which some readers of lines split. In JSON they stand in strings only."""
    if b"\xe2\x80" not in encoded and b"\xc2\x85" not in encoded:
        return encoded
    escaped = encoded.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return escaped.replace(b"\xc2\x85", b"\\u0085")
