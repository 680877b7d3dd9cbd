"""An answer that several callers listen to: the job speaks into a recording, and each caller is played it.

Whoever comes late hears it from its beginning, and somebody who comes when it is over hears the same. So one job has as
many equal answers as it has listeners, streamed or not, and goes on while one of them is there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from pinaivu_host.gateway.answer import Answer
from pinaivu_host.gateway.delivery import NEVER, CallerStalledError, Sink
from pinaivu_host.gateway.departure import Departure, Reason
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.order import Order
from pinaivu_host.store.idempotency import KeyUse
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.signed import Signed
from pinaivu_shared.wire.link import Delivery
from pinaivu_shared.wire.node import Delta

DELTAS_AT_ONCE: Final = 256
"""So many pieces are handed to a sink together: how far each listener has come is known to within these."""
Keep = Callable[["Recording", Signed | None], Awaitable[None]]


class Recording:
    """The sink of a job with listeners. `departure` is the job's: its last listener's leaving.

    Bounded as every answer is (`answer_rules`). Once `over` it ends with `receipt`, with `error`, or with
    neither, if nobody was there to hear an end.
    """

    silent_until = NEVER

    def __init__(self, use: KeyUse, order: Order, keep: Keep) -> None:
        self.use: Final = use
        self.order: Final = order
        self.departure: Final = Departure()
        self.deltas: list[Delta] = []
        self.receipt: Receipt | None = None
        self.error: ApiError | None = None
        self.over: Final = asyncio.Event()
        self._keep = keep
        self._listeners: set[asyncio.Event] = set()
        self._heard = order.ask.new_answer()

    @classmethod
    def of_the_past(cls, use: KeyUse, order: Order, deltas: list[Delta], receipt: Receipt) -> "Recording":
        """A recording of a job that completed earlier."""
        recording = cls(use, order, _never)
        recording.deltas, recording.receipt = deltas, receipt
        recording.over.set()
        return recording

    # What the job does

    async def relay(self, deltas: list[Delta], answer: Answer) -> None:
        """Record the pieces. They are taken whether or not anybody has heard them yet."""
        self.deltas += deltas
        for delta in deltas:
            answer.add(delta)
        self._wake()

    async def keep_alive(self) -> None:
        """Each listener is shown life by its own sink."""

    async def conclude(self, proof: Signed | None) -> None:
        """Store the answer before there can be a receipt for it."""
        await self._keep(self, proof)

    async def complete(self, _answer: Answer, receipt: Receipt) -> None:
        """The end for everybody."""
        if not self.over.is_set():
            self.receipt = receipt
            self.end()

    async def fail(self, error: ApiError) -> None:
        """Also the end for everybody: who waited for a job waited for its failure."""
        if not self.over.is_set():
            self.error = error
            self.end()

    def delivered(self, answer: Answer, *, complete: bool) -> Delivery:
        """A whole answer is there for everybody; of a broken one counts what the furthest listener was streamed."""
        if complete:
            return answer.delivery(self.order.salt, finished=True)
        return self._heard.delivery(self.order.salt, finished=False) if self.order.ask.stream else Delivery(0, "")

    def end(self) -> None:
        """Nothing more comes."""
        self.over.set()
        self._wake()

    # What a listener does

    def join(self) -> asyncio.Event:
        """One more listener; the event says that there is something new."""
        news = asyncio.Event()
        self._listeners.add(news)
        return news

    def leave(self, news: asyncio.Event, reason: Reason) -> None:
        """A listener less; without any the job is cut short."""
        self._listeners.discard(news)
        if not self._listeners and not self.over.is_set():
            self.departure.leave(reason or "client_disconnected")

    async def play(self, news: asyncio.Event, sink: Sink, caller: Departure) -> None:
        """Hand everything on to one caller, until it is over or the caller has gone."""
        caller.attend(news.set)
        try:
            await self._play(news, sink, caller)
        except CallerStalledError:
            caller.leave("client_stalled")

    async def _play(self, news: asyncio.Event, sink: Sink, caller: Departure) -> None:
        answer, position = self.order.ask.new_answer(), 0
        while not caller.reason:
            news.clear()
            if position < len(self.deltas):
                pieces = self.deltas[position : position + DELTAS_AT_ONCE]
                await self._relay(pieces, sink, answer)
                position += len(pieces)
            elif self.over.is_set():
                await self._tell_end(sink, answer)
                return
            elif await _silent(news, sink.silent_until):
                await sink.keep_alive()

    async def _relay(self, pieces: list[Delta], sink: Sink, answer: Answer) -> None:
        """Whatever the caller takes counts, also if he leaves or stalls before he has taken all of it."""
        try:
            await sink.relay(pieces, answer)
        finally:
            if answer.text_bytes > self._heard.text_bytes:
                self._heard = answer

    async def _tell_end(self, sink: Sink, answer: Answer) -> None:
        if self.receipt is not None:
            await sink.complete(answer, self.receipt)
        elif self.error is not None:
            await sink.fail(self.error)

    def _wake(self) -> None:
        for news in self._listeners:
            news.set()


async def _silent(news: asyncio.Event, until: float) -> bool:
    """Wait for something new; whether there was nothing `until` then."""
    try:
        async with asyncio.timeout_at(until if until < NEVER else None):
            await news.wait()
    except TimeoutError:
        return True
    return False


async def _never(_recording: Recording, _proof: Signed | None) -> None:
    raise AssertionError("no job speaks into a recording of the past")
