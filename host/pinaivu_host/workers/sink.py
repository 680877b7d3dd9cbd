"""The sink of a job whose caller is at a worker: what the worker's caller has taken is what counts as delivered."""

import asyncio
from typing import Final

from pinaivu_host.gateway.answer import Answer
from pinaivu_host.gateway.delivery import NEVER, CallerStalledError, in_time
from pinaivu_host.gateway.departure import Departure, Reason
from pinaivu_host.gateway.error_table import Header
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.order import Order
from pinaivu_host.workers.wire import Begin, Complete, Fail, Pieces, WorkerMessage, encode
from pinaivu_shared.canonical import encode as canonical
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.signed import Signed
from pinaivu_shared.wire.link import Delivery
from pinaivu_shared.wire.node import Delta

DELTAS_MAX: Final = 32
"""In one frame: each is below MAX_NODE_MESSAGE_BYTES."""


class WorkerLine:
    """The connection to a worker. `taken` is called for each of its acknowledgements, `departure` is its caller's."""

    def __init__(self, writer: asyncio.StreamWriter, departure: Departure) -> None:
        self._writer, self.departure = writer, departure
        self._acknowledged = asyncio.Event()

    def taken(self) -> None:
        """The worker's caller has taken what was sent last."""
        self._acknowledged.set()

    def leave(self, reason: Reason) -> None:
        """The worker's caller has gone: no acknowledgement will come any more."""
        self.departure.leave(reason)
        self._acknowledged.set()

    def send(self, message: WorkerMessage) -> None:
        """Send what needs no acknowledgement."""
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    async def hand_on(self, message: WorkerMessage) -> bool:
        """Send, and wait until it was taken; whether it was."""
        self._acknowledged.clear()
        if self.departure.reason:
            return False
        self.send(message)
        await self._acknowledged.wait()
        return not self.departure.reason


class WorkerSink:
    """Hands an answer to a worker, which shows it to its caller, and shows life to it meanwhile."""

    silent_until = NEVER

    def __init__(self, line: WorkerLine, order: Order, headers: tuple[Header, ...]) -> None:
        self._line, self._order = line, order
        line.send(Begin(order.command.request_id, order.salt, order.envelope.created_s, headers))

    async def relay(self, deltas: list[Delta], answer: Answer) -> None:
        """Add to the answer what the caller has taken. A repeated answer comes all at once, in several frames."""
        async with in_time():
            for start in range(0, len(deltas), DELTAS_MAX):
                pieces = deltas[start : start + DELTAS_MAX]
                if not await self._hand_on(Pieces(tuple(pieces))):
                    return
                for delta in pieces:
                    answer.add(delta)

    async def keep_alive(self) -> None:
        """The worker does."""

    async def conclude(self, proof: Signed | None) -> None:
        """Nothing is kept."""

    async def complete(self, _answer: Answer, receipt: Receipt) -> None:
        """The worker has all pieces; it lacks the receipt."""
        await self._hand_on(Complete(canonical(receipt)))

    async def fail(self, error: ApiError) -> None:
        """The worker decides whether that is a response or an event."""
        await self._hand_on(Fail.of(error))

    def delivered(self, answer: Answer, *, complete: bool) -> Delivery:
        """As the worker's own sinks would say: of an answer that is not streamed, all or nothing."""
        if complete or self._order.ask.stream:
            return answer.delivery(self._order.salt, finished=complete)
        return Delivery(0, "")

    async def _hand_on(self, message: WorkerMessage) -> bool:
        taken = await self._line.hand_on(message)
        if self._line.departure.reason == "client_stalled":
            raise CallerStalledError
        return taken
