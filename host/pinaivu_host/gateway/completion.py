"""`POST /v1/completions`: what a body asks for, and the `text_completion` objects that answer it."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pinaivu_host.gateway.answer import Answer
from pinaivu_host.gateway.ask import Ask
from pinaivu_host.gateway.chat_answer import usage_of
from pinaivu_host.gateway.completion_request import MOVED, CompletionRequest, check_completion
from pinaivu_host.gateway.envelope import Envelope
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.parameter_names import ParameterNames
from pinaivu_host.gateway.stream import DONE, error_event, one_line
from pinaivu_host.gateway.validation import check_moved, read_request
from pinaivu_shared.forwarding import forwarded_of, token_limit
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.terms import Capability
from pinaivu_shared.wire.node import Delta

ID_PREFIX: Final = "cmpl-"
KIND: Final = "text_completion"
_encode: Final = msgspec.json.Encoder().encode


def read_completion(body: dict[str, Any]) -> Ask:
    """The continuation that a body asks for; ApiError (400, 422)."""
    asked = read_request(CompletionRequest, body)
    check_moved(body, MOVED)
    check_completion(asked)
    forwarded = forwarded_of("completions", body)
    several: tuple[Capability, ...] = ("multiple_choices",) if asked.choices > 1 else ()
    with_usage = bool(asked.stream_options and asked.stream_options.include_usage)
    return Ask(
        model=asked.model,
        forwarded=forwarded,
        needs=("completions", *several),
        shape=CompletionShape(asked.choices, with_usage=with_usage),
        max_tokens=token_limit("completions", forwarded) or 0,
        choices=asked.choices,
        stream=bool(asked.stream),
        may_be_empty=bool(asked.stop),
        names=ParameterNames(content="prompt"),
    )


@dataclass(frozen=True, slots=True)
class CompletionShape:
    """`with_usage` is for streams, whose usage must be asked for."""

    choices: int
    with_usage: bool

    def writer(self, envelope: Envelope) -> "CompletionWriter":
        """Chunks."""
        return CompletionWriter(envelope, self)

    def whole(self, envelope: Envelope, answer: Answer, receipt: Receipt) -> dict[str, Any]:
        """The `text_completion` object."""
        shown = [_choice(index, answer.content(index), answer.finish_reason(index)) for index in range(self.choices)]
        return {**envelope.fields(KIND, prefix=ID_PREFIX), "choices": shown, "usage": usage_of(receipt)}

    def holds(self, _answer: Answer) -> bool:
        """Any text can be shown."""
        return True


class CompletionWriter:
    """Writes the chunks of one answer, which have the shape of the whole. There is no first one without text."""

    def __init__(self, envelope: Envelope, shape: CompletionShape) -> None:
        self._envelope, self._shape = envelope, shape
        self._head = b"data: " + envelope.head(KIND, prefix=ID_PREFIX) + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if shape.with_usage else b"]}\n\n"

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def delta(self, delta: Delta) -> bytes:
        """A piece of text."""
        return self._chunk(delta.index, delta.content, None) if delta.content else b""

    def finish(self, answer: Answer, receipt: Receipt) -> bytes:
        """The finish chunk of each choice, the usage chunk if asked for, and the end."""
        last = b"".join(self._chunk(index, "", answer.finish_reason(index)) for index in range(self._shape.choices))
        if self._shape.with_usage:
            last += self._head + b'],"usage":' + _encode(usage_of(receipt)) + b"}\n\n"
        return last + DONE

    def fail(self, error: ApiError) -> bytes:
        """An event with the error in it."""
        return error_event(error.body(self._envelope.request_id))

    def _chunk(self, index: int, text: str, finish_reason: str | None) -> bytes:
        return self._head + one_line(_encode(_choice(index, text, finish_reason))) + self._tail


def _choice(index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish_reason}
