"""The answer of `POST /v1/chat/completions`: `chat.completion`, and its chunks, one per event.

Templates are encoded once for each answer.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pinaivu_host.gateway.answer import Answer, shown_logprobs
from pinaivu_host.gateway.envelope import Envelope
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.stream import DONE, error_event, one_line
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.wire.node import Delta, ToolCallDelta

ID_PREFIX: Final = "chatcmpl-"
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ChatShape:
    """`with_usage` is for streams, whose usage must be asked for, `with_logprobs` for streams too."""

    choices: int = 1
    with_usage: bool = False
    with_logprobs: bool = False

    def writer(self, envelope: Envelope) -> "ChatWriter":
        """Chunks."""
        return ChatWriter(envelope, self)

    def whole(self, envelope: Envelope, answer: Answer, receipt: Receipt) -> dict[str, Any]:
        """The `chat.completion` object."""
        head = envelope.fields("chat.completion", prefix=ID_PREFIX)
        return {**head, "choices": answer.choices(), "usage": usage_of(receipt)}

    def holds(self, _answer: Answer) -> bool:
        """Any text and any calls can be shown."""
        return True


class ChatWriter:
    """Writes the chunks of one answer. With usage, all but the last have `usage: null`."""

    def __init__(self, envelope: Envelope, shape: ChatShape) -> None:
        self._envelope, self._shape = envelope, shape
        self._head = b"data: " + envelope.head("chat.completion.chunk", prefix=ID_PREFIX) + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if shape.with_usage else b"]}\n\n"
        self._text_heads = [self._head + b'{"index":%d,"delta":{"content":' % index for index in range(shape.choices)]
        self._text_tail = b'},"finish_reason":null}' + self._tail
        self._calls_begun: set[tuple[int, int]] = set()

    def begin(self) -> bytes:
        """The first chunk of each choice."""
        role = {"role": "assistant", "content": ""}
        return b"".join(self._chunk(index, role, None) for index in range(self._shape.choices))

    def delta(self, delta: Delta) -> bytes:
        """A piece of the answer, empty where nothing of it is shown; its finish_reason is not written here."""
        logprobs = shown_logprobs(delta) if self._shape.with_logprobs else []
        if delta.content and not delta.tool_calls and not logprobs:
            return self._text_heads[delta.index] + one_line(_encode(delta.content)) + self._text_tail
        if not (delta.content or delta.tool_calls or logprobs):
            return b""
        shown: dict[str, Any] = {}
        if delta.content or not delta.tool_calls:
            shown["content"] = delta.content
        if delta.tool_calls:
            shown["tool_calls"] = [self._tool_call(delta.index, piece) for piece in delta.tool_calls]
        return self._chunk(delta.index, shown, None, {"content": logprobs, "refusal": None} if logprobs else None)

    def finish(self, answer: Answer, receipt: Receipt) -> bytes:
        """The finish chunk of each choice, the usage chunk if asked for, and the end."""
        last = b"".join(self._chunk(index, {}, answer.finish_reason(index)) for index in range(self._shape.choices))
        if self._shape.with_usage:
            last += self._head + b'],"usage":' + _encode(usage_of(receipt)) + b"}\n\n"
        return last + DONE

    def fail(self, error: ApiError) -> bytes:
        """An event with the error in it."""
        return error_event(error.body(self._envelope.request_id))

    def _chunk(self, index: int, delta: dict[str, Any], finish_reason: str | None, logprobs: object = None) -> bytes:
        choice: dict[str, Any] = {"index": index, "delta": delta}
        if logprobs is not None:
            choice["logprobs"] = logprobs
        choice["finish_reason"] = finish_reason
        return self._head + one_line(_encode(choice)) + self._tail

    def _tool_call(self, index: int, piece: ToolCallDelta) -> dict[str, Any]:
        """The first piece of a call carries id, type and name, the later ones arguments only."""
        if (index, piece.index) in self._calls_begun:
            return {"index": piece.index, "function": {"arguments": piece.arguments}}
        self._calls_begun.add((index, piece.index))
        function = {"name": piece.name, "arguments": piece.arguments}
        return {"index": piece.index, "id": piece.id, "type": "function", "function": function}


def usage_of(receipt: Receipt) -> dict[str, int]:
    """The `usage` object: the tokens that are paid."""
    return {
        "prompt_tokens": receipt.prompt_tokens,
        "completion_tokens": receipt.completion_tokens,
        "total_tokens": receipt.prompt_tokens + receipt.completion_tokens,
    }
