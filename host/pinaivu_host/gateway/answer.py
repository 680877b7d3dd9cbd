"""An answer as it is assembled from a node's deltas: what is committed to, what an unstreamed caller gets."""

from typing import Any, Final

import msgspec

from pinaivu_shared.commitments import response_commitment
from pinaivu_shared.wire.link import Delivery
from pinaivu_shared.wire.node import Delta, ToolCallDelta


class _Call:
    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class Answer:
    """One choice, with log-probabilities if asked to keep them.

    `text_bytes` counts the UTF-8 bytes of content, and of tool calls' names and arguments.
    """

    def __init__(self, *, with_logprobs: bool = False) -> None:
        self._with_logprobs = with_logprobs
        self._content: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._logprobs: list[TokenLogprob] = []
        self.finish_reason = ""
        self.text_bytes = 0

    def add(self, delta: Delta) -> None:
        """Take the next piece."""
        if delta.content:
            self._content.append(delta.content)
            self.text_bytes += len(delta.content.encode())
        for piece in delta.tool_calls:
            self._add_call(piece)
        if self._with_logprobs:
            self._logprobs.extend(shown_logprobs(delta))
        if delta.finish_reason:
            self.finish_reason = delta.finish_reason

    def choice(self) -> dict[str, Any]:
        """The choice as an unstreamed answer shows it, keys in OpenAI's order."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._content), "refusal": None}
        if self._calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": "".join(call.arguments)},
                }
                for _, call in sorted(self._calls.items())
            ]
        logprobs = {"content": self._logprobs, "refusal": None} if self._logprobs else None
        return {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": self.finish_reason or None}

    def delivery(self, salt: bytes, *, finished: bool) -> Delivery:
        """What the enclave is told was delivered: all that was added so far, and its finish_reason if `finished`."""
        if not (finished or self.text_bytes or self._calls):
            return Delivery(0, "")
        choice = self.choice()
        if not finished:
            choice["finish_reason"] = None
        return Delivery(self.text_bytes, response_commitment([choice], salt))

    def _add_call(self, piece: ToolCallDelta) -> None:
        call = self._calls.setdefault(piece.index, _Call())
        call.id = call.id or piece.id
        call.name = call.name or piece.name
        call.arguments.append(piece.arguments)
        self.text_bytes += len(piece.name.encode()) + len(piece.arguments.encode())


class Alternative(msgspec.Struct, frozen=True):
    """A token that might have come, with its natural logarithm of probability and its bytes."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(Alternative, frozen=True):
    """A token that came, and what else might have."""

    top_logprobs: list[Alternative] = []


class _Logprobs(msgspec.Struct, frozen=True):
    content: list[TokenLogprob] = []


_decoder: Final[msgspec.msgpack.Decoder[_Logprobs]] = msgspec.msgpack.Decoder(_Logprobs)


def shown_logprobs(delta: Delta) -> list[TokenLogprob]:
    """The token entries of a delta's logprobs, nothing where a node sends anything else."""
    if not delta.logprobs:
        return []
    try:
        return _decoder.decode(delta.logprobs).content
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
