"""Handing an answer to its caller, piece by piece or as a whole, and knowing how much of it was handed over."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import msgspec
from starlette.types import Message, Send

from pinaivu_host.gateway.answer import LARGE_ANSWER_BYTES, Answer
from pinaivu_host.gateway.departure import Departure
from pinaivu_host.gateway.error_table import Header
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.http_answer import JSON, WRITE_BYTES, response_start, send_body, send_error
from pinaivu_host.gateway.order import Order
from pinaivu_host.gateway.stream import CONTENT_TYPE, HEADERS, KEEP_ALIVE
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.signed import Signed
from pinaivu_shared.wire.link import Delivery
from pinaivu_shared.wire.node import Delta

SEND_LIMIT_S: Final = 30.0
SILENCE_LIMIT_S: Final = 10.0
NEVER: Final = float("inf")


class CallerStalledError(Exception):
    """The caller has not taken what was sent for SEND_LIMIT_S."""


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """CallerStalledError where the caller does not take in SEND_LIMIT_S what is sent in this context."""
    try:
        async with asyncio.timeout(SEND_LIMIT_S):
            yield
    except TimeoutError:
        raise CallerStalledError from None


class Sink(Protocol):
    """Where an answer goes. `silent_until` is when `keep_alive` has something to do, on the event loop's clock."""

    silent_until: float

    async def relay(self, deltas: list[Delta], answer: Answer) -> None:
        """Add the pieces to `answer` and hand on what can be handed on."""

    async def keep_alive(self) -> None:
        """Show signs of life if it is time."""

    async def conclude(self, proof: Signed | None) -> None:
        """The node has proven all that was relayed; return when the job may be settled."""

    async def complete(self, answer: Answer, receipt: Receipt) -> None:
        """Hand on the end: the receipt is durable."""

    async def fail(self, error: ApiError) -> None:
        """Say that there will be no answer, or no more of it."""

    def delivered(self, answer: Answer, *, complete: bool) -> Delivery:
        """What was handed over, or is about to be if the answer is complete."""


class StreamSink:
    """Server-sent events. The status line waits for the first piece, or for SILENCE_LIMIT_S."""

    def __init__(self, send: Send, order: Order, departure: Departure, headers: tuple[Header, ...] = ()) -> None:
        self._send, self._order, self._departure = _limited(send), order, departure
        self._headers = (_salt(order), *headers)
        self._writer = order.ask.shape.writer(order.envelope)
        self._head = self._writer.begin()
        self._loop = asyncio.get_running_loop()
        self._begun = False
        self.silent_until = self._loop.time() + SILENCE_LIMIT_S

    async def relay(self, deltas: list[Delta], answer: Answer) -> None:
        """Send the pieces that arrived together, in time, in writes of WRITE_BYTES; count what each of them held.

        What nobody reads stays here, and uncounted, but for what the server and the network hold.
        """
        async with in_time():
            for events, held in self._writes(deltas):
                if events:
                    await self._write(events)
                if len(events) >= WRITE_BYTES:
                    await asyncio.sleep(0)  # a turn to notice a disconnect: what is written after one is swallowed
                if self._departure.reason:
                    return
                for delta in held:
                    answer.add(delta)

    async def keep_alive(self) -> None:
        """A comment after SILENCE_LIMIT_S without a chunk; event names would reach the caller's code."""
        if self._loop.time() >= self.silent_until:
            await self._write(KEEP_ALIVE)

    async def conclude(self, proof: Signed | None) -> None:
        """Nothing is kept."""

    async def complete(self, answer: Answer, receipt: Receipt) -> None:
        """The last events."""
        await self._write(self._writer.finish(answer, receipt), more=False)
        self._departure.outcome = receipt.outcome

    async def fail(self, error: ApiError) -> None:
        """An error response while that is still possible, an error event after."""
        self._departure.outcome = error.kind.code
        if self._begun:
            await self._write(self._writer.fail(error), more=False)
        else:
            await send_error(self._send, error, request_id=self._order.command.request_id, headers=self._headers)

    def delivered(self, answer: Answer, *, complete: bool) -> Delivery:
        """Everything that `answer` holds has been accepted by the server, but for its end."""
        return answer.delivery(self._order.salt, finished=complete)

    def _writes(self, deltas: list[Delta]) -> Iterator[tuple[bytes, list[Delta]]]:
        """The events of as many pieces as make a write, and those pieces."""
        events, held = bytearray(), list[Delta]()
        for delta in deltas:
            events += self._writer.delta(delta)
            held.append(delta)
            if len(events) >= WRITE_BYTES:
                yield bytes(events), held
                events, held = bytearray(), []
        if held:
            yield bytes(events), held

    async def _write(self, events: bytes, *, more: bool = True) -> None:
        if not self._begun:
            self._begun = True
            headers = (*HEADERS, *self._headers)
            request_id = self._order.command.request_id
            await self._send(response_start(200, CONTENT_TYPE, request_id=request_id, headers=headers))
            events = self._head + events
        await send_body(self._send, events, more=more)
        self.silent_until = self._loop.time() + SILENCE_LIMIT_S


class WholeSink:
    """One JSON object at the end."""

    silent_until = NEVER

    def __init__(self, send: Send, order: Order, departure: Departure, headers: tuple[Header, ...] = ()) -> None:
        self._send, self._order, self._departure = _limited(send), order, departure
        self._headers = (_salt(order), *headers)

    async def relay(self, deltas: list[Delta], answer: Answer) -> None:
        """Keep the pieces."""
        for delta in deltas:
            answer.add(delta)

    async def keep_alive(self) -> None:
        """There is no way to show life before the answer is there."""

    async def conclude(self, proof: Signed | None) -> None:
        """Nothing is kept."""

    async def complete(self, answer: Answer, receipt: Receipt) -> None:
        """The whole object."""
        request_id = self._order.command.request_id
        large = answer.text_bytes > LARGE_ANSWER_BYTES
        encoded = await asyncio.to_thread(self._encoded, answer, receipt) if large else self._encoded(answer, receipt)
        start = response_start(200, JSON, request_id=request_id, headers=self._headers, size_bytes=len(encoded))
        await self._send(start)
        await send_body(self._send, encoded)
        self._departure.outcome = receipt.outcome

    async def fail(self, error: ApiError) -> None:
        """An error response."""
        self._departure.outcome = error.kind.code
        await send_error(self._send, error, request_id=self._order.command.request_id, headers=self._headers)

    def _encoded(self, answer: Answer, receipt: Receipt) -> bytes:
        body = self._order.ask.shape.whole(self._order.envelope, answer, receipt)
        return msgspec.json.encode({**body, "request_id": self._order.command.request_id})

    def delivered(self, answer: Answer, *, complete: bool) -> Delivery:
        """All of a complete answer, nothing of any other."""
        return answer.delivery(self._order.salt, finished=True) if complete else Delivery(0, "")


MakeSink = Callable[[Order, tuple[Header, ...]], Sink]
"""Makes the sink for an order, which may be another's whose answer is repeated, with these headers beside the usual."""


def make_sink(send: Send, departure: Departure, order: Order, headers: tuple[Header, ...]) -> Sink:
    """The sink for how the caller wants his answer, with these headers beside the usual ones."""
    if order.ask.stream:
        return StreamSink(send, order, departure, headers)
    return WholeSink(send, order, departure, headers)


def _salt(order: Order) -> tuple[str, str]:
    return ("x-pinaivu-salt", order.salt.hex())


def _limited(send: Send) -> Send:
    """Each message in time."""

    async def sending(message: Message) -> None:
        async with in_time():
            await send(message)

    return sending
