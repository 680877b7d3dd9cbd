"""An answer as it is assembled from a node's deltas: what is committed to, what an unstreamed caller gets."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from pinaivu_shared.commitments import response_commitment
from pinaivu_shared.errors import PeerError
from pinaivu_shared.wire.link import Delivery
from pinaivu_shared.wire.node import Delta, ToolCallDelta

LARGE_ANSWER_BYTES: Final = 128 * 1024
"""Checking and showing more than this at once takes so long that others should get turns meanwhile."""


class _Call:
    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class _Choice:
    __slots__ = ("calls", "content", "finish_reason", "logprobs")

    def __init__(self) -> None:
        self.content: list[str] = []
        self.calls: dict[int, _Call] = {}
        self.logprobs: list[TokenLogprob] = []
        self.finish_reason = ""


class Answer:
    """One choice or several, with log-probabilities if asked to keep them.

    `text_bytes` counts the UTF-8 bytes of content, and of tool calls' names and arguments.
    """

    def __init__(self, *, choices: int = 1, with_logprobs: bool = False) -> None:
        self._with_logprobs = with_logprobs
        self._choices: Final = [_Choice() for _ in range(choices)]
        self.text_bytes = 0

    def add(self, delta: Delta) -> None:
        """Take the next piece."""
        choice = self._choices[delta.index]
        if delta.content:
            choice.content.append(delta.content)
            self.text_bytes += len(delta.content.encode())
        for piece in delta.tool_calls:
            self._add_call(choice, piece)
        if self._with_logprobs:
            choice.logprobs.extend(shown_logprobs(delta))
        if delta.finish_reason:
            choice.finish_reason = delta.finish_reason

    def content(self, index: int = 0) -> str:
        """The text of one choice so far."""
        return "".join(self._choices[index].content)

    def finish_reason(self, index: int = 0) -> str:
        """Why this choice ended, empty while it has not."""
        return self._choices[index].finish_reason

    def choices(self) -> list[dict[str, Any]]:
        """The choices as an unstreamed chat shows them, keys in OpenAI's order."""
        return [_shown(index, choice) for index, choice in enumerate(self._choices)]

    def delivery(self, salt: bytes, *, finished: bool) -> Delivery:
        """What the enclave is told was delivered: all that was added so far, and the finish_reasons if `finished`."""
        if not (finished or self.text_bytes or any(choice.calls for choice in self._choices)):
            return Delivery(0, "")
        choices = self.choices()
        if not finished:
            for choice in choices:
                choice["finish_reason"] = None
        return Delivery(self.text_bytes, response_commitment(choices, salt))

    def _add_call(self, choice: _Choice, piece: ToolCallDelta) -> None:
        call = choice.calls.setdefault(piece.index, _Call())
        call.id = call.id or piece.id
        call.name = call.name or piece.name
        call.arguments.append(piece.arguments)
        self.text_bytes += len(piece.name.encode()) + len(piece.arguments.encode())


def _shown(index: int, choice: _Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(choice.content), "refusal": None}
    if choice.calls:
        message["content"] = message["content"] or None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": "".join(call.arguments)}}
            for _, call in sorted(choice.calls.items())
        ]
    logprobs = {"content": choice.logprobs, "refusal": None} if choice.logprobs else None
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish_reason or None}


def replayed(deltas: Sequence[Delta], *, choices: int) -> Answer:
    """The answer that these pieces make."""
    answer = Answer(choices=choices)
    for delta in deltas:
        answer.add(delta)
    return answer


_Logprob = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=0)]
"""Neither a NaN nor infinite, for which JSON has no words."""
_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class Alternative(msgspec.Struct, frozen=True):
    """A token that might have come, with its natural logarithm of probability and its bytes."""

    token: str
    logprob: _Logprob
    bytes: list[_Byte] | None = None


class TokenLogprob(Alternative, frozen=True):
    """A token that came, and what else might have."""

    top_logprobs: list[Alternative] = []


class _Logprobs(msgspec.Struct, frozen=True):
    content: list[TokenLogprob] = []


_decoder: Final[msgspec.msgpack.Decoder[_Logprobs]] = msgspec.msgpack.Decoder(_Logprobs)


def shown_logprobs(delta: Delta) -> list[TokenLogprob]:
    """The token entries of a delta's logprobs; PeerError for what has not OpenAI's shape, or no sense."""
    if not delta.logprobs:
        return []
    try:
        return _decoder.decode(delta.logprobs).content
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PeerError("node", f"log-probabilities of another shape: {error}") from error
