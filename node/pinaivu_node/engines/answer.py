"""An engine's streamed answer as it arrives: bytes of an event stream in, typed events out.

An answer is whole only with a `finish_reason` for each choice: a body that ends without one, an error in an event or a
cut connection is a failure, never an end. `Finish` therefore comes last, after the stream has ended well, even where an
engine puts its reason beside the last piece of text.
"""

from collections.abc import AsyncIterator
from typing import Self

import msgspec

from pinaivu_node.engines.choice_reader import ChoiceReader
from pinaivu_node.engines.chunks import decode_chunk
from pinaivu_node.engines.events import EngineError, Event, Text, Usage
from pinaivu_node.engines.failures import TRANSPORT_ERRORS, failure_of_event
from pinaivu_node.engines.request import EngineRequest
from pinaivu_node.engines.sse import EventReader
from pinaivu_node.engines.usage import UsageCount


class Answer:
    """Iterate over it for batches of events, one batch for what arrived together.

    `ended` tells that the engine finished by itself; `usage` what it counted.
    """

    def __init__(self, chunks: AsyncIterator[bytes], request: EngineRequest) -> None:
        """`chunks` is the response body; of the request, its limits are kept here too."""
        self._chunks, self._events = chunks, EventReader()
        self._choices = [
            ChoiceReader(index, limit=request.limit, top_logprobs=request.top_logprobs)
            for index in range(request.choices)
        ]
        self._count = UsageCount(request.choices, trimmed=request.trimmed)
        self._over = False
        self.ended = False

    @property
    def usage(self) -> Usage:
        """The engine's own count of a whole answer, zeros where it gave none.

        An answer that was broken off has no such count: then it is what the engine told on the way, and at least one
        token for each piece.
        """
        if self.ended:
            return self._count.whole()
        running = self._count.so_far()
        pieces = sum(choice.pieces for choice in self._choices)
        return Usage(running.prompt_tokens, max(running.completion_tokens, pieces))

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
            except TRANSPORT_ERRORS as error:
                raise EngineError("engine_unavailable", f"the answer broke off: {type(error).__name__}") from error
            if events := self._read(chunk):
                return events
        raise StopAsyncIteration

    def _read(self, chunk: bytes) -> list[Event]:
        events: list[Event] = []
        for data in self._events.feed(chunk):
            if data == b"[DONE]":
                return _joined(events) + self._end()
            events += self._take(data)
            if self._goes_beyond():
                self._over = True
                return _joined(events) + self._last_events()
        return _joined(events)

    def _take(self, data: bytes) -> list[Event]:
        """What one event of the stream holds."""
        chunk = decode_chunk(data)
        if chunk.error is not None or chunk.object == "error":
            raise failure_of_event(data)
        events, told = [], list[ChoiceReader]()
        for choice in chunk.choices or ():
            if not 0 <= choice.index < len(self._choices):
                raise EngineError("engine_unavailable", "a choice that was not asked for")
            told.append(self._choices[choice.index])
            events += told[-1].take(choice)
        self._count.take(chunk, ended=all(choice.finish is not None for choice in told or self._choices))
        return events

    def _goes_beyond(self) -> bool:
        """Whether nothing is left to come but what goes beyond a limit."""
        return any(choice.over for choice in self._choices) and all(choice.finish for choice in self._choices)

    def _end(self) -> list[Event]:
        events = self._last_events()
        self._over = self.ended = True
        return events

    def _last_events(self) -> list[Event]:
        finished = [choice.finished() for choice in self._choices]
        return [*(event for choice in self._choices for event in choice.end()), *finished]


def _joined(events: list[Event]) -> list[Event]:
    """Neighbouring texts of one choice made one, so that what arrived together travels together."""
    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, Text) and isinstance(last, Text) and _is_plain(event, last):
            joined[-1] = msgspec.structs.replace(last, content=last.content + event.content)
        else:
            joined.append(event)
    return joined


def _is_plain(event: Text, last: Text) -> bool:
    return event.index == last.index and event.logprobs is None and last.logprobs is None
