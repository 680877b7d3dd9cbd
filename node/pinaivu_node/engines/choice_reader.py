"""One choice of an engine's answer: its pieces in, whole characters and joined tool calls out, within its limit."""

from typing import Final, cast, get_args

import msgspec

from pinaivu_node.engines.characters import WholeCharacters, whole
from pinaivu_node.engines.chunks import Choice, FunctionPiece, Logprobs, ToolCallPiece
from pinaivu_node.engines.events import EngineError, Event, Finish, FinishReason, Text, ToolCalls
from pinaivu_shared.wire.node import ToolCallDelta

MAX_TOOL_CALLS: Final = 128
_SPELLINGS: Final = {reason: reason for reason in get_args(FinishReason)} | {
    "function_call": "tool_calls",
    "eos_token": "stop",
    "stop_sequence": "stop",
}


class ChoiceReader:
    """`pieces` counts those with text or tool calls; `finish` is set when the engine ended the choice or it is `over`.

    `over` tells that the engine goes on beyond the limit that it was given: what it wrote so far is the choice.
    """

    def __init__(self, index: int, *, limit: int, top_logprobs: int | None) -> None:
        """`top_logprobs` None drops all log-probabilities."""
        self._index, self._limit, self._top_logprobs = index, limit, top_logprobs
        self._characters = WholeCharacters()
        self._calls: list[_Call] = []
        self.pieces, self.over = 0, False
        self.finish: FinishReason | None = None

    def take(self, choice: Choice) -> list[Event]:
        """What a chunk adds; EngineError for what no answer may hold."""
        content = choice.text or (choice.delta.content if choice.delta else None)
        calls = choice.delta.tool_calls if choice.delta else None
        if content or calls:
            self.over = self.over or self.pieces >= self._limit
        if self.over:
            self.finish = "length"
            return []
        self.pieces += bool(content or calls)
        events = [*self._texts(content or "", self._shown(choice.logprobs)), *self._tool_calls(calls or [])]
        if choice.finish_reason:
            self.finish = _finish_reason(choice.finish_reason)
        return events

    def end(self) -> list[Event]:
        """What was held back of text and arguments, now that nothing follows it."""
        text = self._characters.flush()
        rests = ((call.place, call.arguments.flush()) for call in self._calls)
        calls = tuple(ToolCallDelta(place, arguments=rest) for place, rest in rests if rest)
        return [
            *([Text(text, index=self._index)] if text else []),
            *([ToolCalls(calls, self._index)] if calls else []),
        ]

    def finished(self) -> Finish:
        """The end of the choice; EngineError when the engine did not say why it ended."""
        if self.finish is None:
            raise EngineError("engine_unavailable", "the answer ended without a finish_reason")
        return Finish(self.finish, self._index)

    def _texts(self, piece: str, logprobs: object) -> list[Event]:
        content = self._characters.push(piece) if piece else ""
        return [Text(content, logprobs, self._index)] if content or logprobs else []

    def _tool_calls(self, pieces: list[ToolCallPiece]) -> list[Event]:
        return [ToolCalls(tuple(map(self._tool_call, pieces)), self._index)] if pieces else []

    def _tool_call(self, piece: ToolCallPiece) -> ToolCallDelta:
        """Numbered from 0 on in the order of their beginnings, whatever the engine numbers them by.

        Some engines give whole calls without an index: each is then a call of its own.
        """
        index = max((call.index for call in self._calls), default=-1) + 1 if piece.index is None else piece.index
        function = piece.function or FunctionPiece()
        own_id, name, arguments = whole(piece.id or ""), whole(function.name or ""), function.arguments or ""
        call = self._last_at(index, own_id)
        if call and not call.is_followed_by(own_id, name, arguments):
            return ToolCallDelta(call.place, arguments=call.push(arguments))
        if len(self._calls) == MAX_TOOL_CALLS:
            raise EngineError("engine_unavailable", f"more than {MAX_TOOL_CALLS} tool calls")
        if not name:
            raise EngineError("engine_unavailable", "a tool call begins without the function's name")
        call = _Call(len(self._calls), index, own_id, name)
        self._calls.append(call)
        return ToolCallDelta(call.place, own_id, name, call.push(arguments))

    def _last_at(self, index: int, own_id: str) -> "_Call | None":
        """The call of this id among those that the engine gave this index, else the last of them."""
        calls = [call for call in reversed(self._calls) if call.index == index]
        return next((call for call in calls if own_id and call.id == own_id), calls[0] if calls else None)

    def _shown(self, logprobs: Logprobs | None) -> object:
        """Log-probabilities as they were asked for: engines give alternatives that nobody wanted.

        A gateway takes none above 0, which is what rounding makes of a certain token's.
        """
        if logprobs is None or not logprobs.content or self._top_logprobs is None:
            return None
        for token in logprobs.content:
            token.top_logprobs = token.top_logprobs[: self._top_logprobs]
            for one in (token, *token.top_logprobs):
                one.logprob = min(one.logprob, 0.0)
        return msgspec.to_builtins(logprobs)


class _Call:
    """A tool call that has begun: its place among them, the engine's index of it, and its arguments so far."""

    def __init__(self, place: int, index: int, own_id: str, name: str) -> None:
        self.place, self.index, self.id, self.name = place, index, own_id, name
        self.arguments = WholeCharacters()
        self._written: list[str] = []

    def push(self, arguments: str) -> str:
        """As much of the arguments as is whole by now and was not before."""
        self._written.append(piece := self.arguments.push(arguments))
        return piece

    def is_followed_by(self, own_id: str, name: str, arguments: str) -> bool:
        """Whether a piece under its index begins another call: some engines give all calls one index.

        Another id does not tell it alone, as some engines give each piece of a call the call's name and a new id.
        """
        if not (name and own_id and self.id) or own_id == self.id:
            return False
        return name != self.name or (arguments.strip() != "" and self._is_whole())

    def _is_whole(self) -> bool:
        if not (written := "".join(self._written)).rstrip().endswith("}"):
            return False  # arguments are an object; most pieces end without one
        try:
            msgspec.json.decode(written)
        except (msgspec.DecodeError, RecursionError):
            return False
        return True


def _finish_reason(told: str) -> FinishReason:
    if told not in _SPELLINGS:
        raise EngineError("engine_unavailable", f"the answer ended with {told[:40]!r}")
    return cast("FinishReason", _SPELLINGS[told])
