"""An engine's answer as it arrives: bytes of an event stream in, typed events out.

An answer is whole only with a `finish_reason`: a body that ends without one, an error in an event or a cut connection
is a failure, never an end. `Finish` therefore comes last, after the stream has ended well, even where an engine puts
its reason beside the last piece of text.
"""

from collections.abc import AsyncIterator
from typing import Final, Self, cast, get_args

import httpx
import msgspec

from pinaivu_node.engines.characters import WholeCharacters, whole
from pinaivu_node.engines.chunks import Choice, Chunk, Logprobs, ToolCallPiece, decode_chunk
from pinaivu_node.engines.events import NO_USAGE, EngineError, Event, Finish, FinishReason, Text, ToolCalls, Usage
from pinaivu_node.engines.failures import failure_of_event
from pinaivu_node.engines.request import EngineRequest
from pinaivu_node.engines.sse import EventReader
from pinaivu_shared.wire.node import ToolCallDelta

MAX_TOOL_CALLS: Final = 128
_SPELLINGS: Final = {reason: reason for reason in get_args(FinishReason)} | {
    "function_call": "tool_calls",
    "eos_token": "stop",
    "stop_sequence": "stop",
}


class Answer:
    """Iterate over it for batches of events, one batch for what arrived together.

    `ended` tells that the engine finished by itself; `usage` what it counted.
    """

    def __init__(self, chunks: AsyncIterator[bytes], request: EngineRequest) -> None:
        """`chunks` is the response body; of the request, its limit is kept here too."""
        self._chunks, self._limit, self._top_logprobs = chunks, request.limit, request.top_logprobs
        self._events, self._characters = EventReader(), WholeCharacters()
        self._finish: FinishReason | None = None
        self._final_usage: Usage | None = None
        self._running_usage = NO_USAGE
        self._pieces = 0
        self._over = False
        self._arguments: dict[int, WholeCharacters] = {}
        self.ended = False

    @property
    def usage(self) -> Usage:
        """The engine's own count of a whole answer, zeros where it gave none.

        An answer that was broken off has no such count: then it is what the engine told on the way, and at least one
        token for each piece.
        """
        if self.ended:
            return self._final_usage or NO_USAGE
        running = self._final_usage or self._running_usage
        return Usage(running.prompt_tokens, max(running.completion_tokens, self._pieces))

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> list[Event]:
        """The next events; EngineError when the answer breaks off."""
        while not self._over:
            try:
                chunk = await anext(self._chunks)
            except StopAsyncIteration:
                return self._end()
            except httpx.HTTPError as error:
                raise EngineError("engine_unavailable", f"the answer broke off: {type(error).__name__}") from error
            if events := self._read(chunk):
                return events
        raise StopAsyncIteration

    def _read(self, chunk: bytes) -> list[Event]:
        events: list[Event] = []
        for data in self._events.feed(chunk):
            if data == b"[DONE]":
                return _joined(events) + self._end()
            if self._take(data, events):
                return _joined(events) + self._break_off()
        return _joined(events)

    def _take(self, data: bytes, events: list[Event]) -> bool:
        """Add what one event holds; True when it goes beyond the limit."""
        chunk = decode_chunk(data)
        if chunk.error is not None or chunk.object == "error":
            raise failure_of_event(data)
        for choice in chunk.choices or ():
            if choice.index != 0:
                raise EngineError("engine_unavailable", "a second choice, which was not asked for")
            if choice.delta is not None and self._take_delta(choice, events):
                return True
            if choice.finish_reason:
                self._finish = _finish_reason(choice.finish_reason)
        self._count(chunk)
        return False

    def _take_delta(self, choice: Choice, events: list[Event]) -> bool:
        assert choice.delta is not None
        if choice.delta.content or choice.delta.tool_calls:
            self._pieces += 1
            if self._pieces > self._limit:
                self._pieces = self._limit
                return True
        logprobs = self._shown(choice.logprobs)
        content = self._characters.push(choice.delta.content) if choice.delta.content else ""
        if content or logprobs:
            events.append(Text(content, logprobs))
        if choice.delta.tool_calls:
            events.append(ToolCalls(tuple(self._tool_call(piece) for piece in choice.delta.tool_calls)))
        return False

    def _tool_call(self, piece: ToolCallPiece) -> ToolCallDelta:
        """Some engines give whole calls without an index: each is then a call of its own."""
        index = max(self._arguments, default=-1) + 1 if piece.index is None else piece.index
        if index > MAX_TOOL_CALLS:
            raise EngineError("engine_unavailable", f"a tool call beyond number {MAX_TOOL_CALLS}")
        characters = self._arguments.setdefault(index, WholeCharacters())
        name, arguments = (piece.function.name, piece.function.arguments) if piece.function else (None, None)
        return ToolCallDelta(index, whole(piece.id or ""), whole(name or ""), characters.push(arguments or ""))

    def _shown(self, logprobs: Logprobs | None) -> object:
        """Log-probabilities as they were asked for: engines give alternatives that nobody wanted."""
        if logprobs is None or not logprobs.content or self._top_logprobs is None:
            return None
        for token in logprobs.content:
            token.top_logprobs = token.top_logprobs[: self._top_logprobs]
        return msgspec.to_builtins(logprobs)

    def _count(self, chunk: Chunk) -> None:
        if chunk.usage is not None:
            usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
            self._running_usage = usage
            if self._finish is not None:
                self._final_usage = usage
        elif chunk.timings is not None:
            prompt_tokens = chunk.timings.cache_n + chunk.timings.prompt_n
            self._running_usage = Usage(prompt_tokens, chunk.timings.predicted_n)

    def _end(self) -> list[Event]:
        if self._finish is None:
            raise EngineError("engine_unavailable", "the answer ended without a finish_reason")
        self._over = self.ended = True
        return [*self._flushed(), Finish(self._finish)]

    def _break_off(self) -> list[Event]:
        """The engine goes on beyond the limit that it was given: what it wrote so far is the answer."""
        self._over = True
        return [*self._flushed(), Finish("length")]

    def _flushed(self) -> list[Event]:
        """What was held back of text and arguments, now that nothing follows it."""
        text = self._characters.flush()
        rests = ((index, characters.flush()) for index, characters in self._arguments.items())
        calls = tuple(ToolCallDelta(index, arguments=rest) for index, rest in rests if rest)
        return [*([Text(text)] if text else []), *([ToolCalls(calls)] if calls else [])]


def _finish_reason(told: str) -> FinishReason:
    if told not in _SPELLINGS:
        raise EngineError("engine_unavailable", f"the answer ended with {told[:40]!r}")
    return cast("FinishReason", _SPELLINGS[told])


def _joined(events: list[Event]) -> list[Event]:
    """Neighbouring texts made one, so that what arrived together travels together."""
    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, Text) and isinstance(last, Text) and event.logprobs is None and last.logprobs is None:
            joined[-1] = Text(last.content + event.content)
        else:
            joined.append(event)
    return joined
