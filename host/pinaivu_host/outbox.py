"""The outbox: every order is sent until the enclave has recorded it or refused it for good.

Whether a broken link lost the order or its answer cannot be told, so it is simply sent again: an order counts once, by
its reference, and the enclave says `duplicate_order` to one that is in the log already.
"""

import asyncio
import contextlib
import logging
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from pinaivu_host.errors import CommandRefusedError, CoordinatorUnavailableError
from pinaivu_host.link import EnclaveLink
from pinaivu_host.store.journal import Journal
from pinaivu_host.store.orders import Orders, StoredOrder
from pinaivu_shared.wire.link import OrderRecorded, RecordOrder

logger = logging.getLogger(__name__)

POLL_S: Final = 1.0
"""Another process may have added an order (`pinaivu host create-key`)."""
DUPLICATE: Final = "duplicate_order"
LATER: Final = frozenset({"market_full", "overloaded", "illegal_command"})
"""Refusals of this moment, not of the order."""


class Outbox:
    """Carries orders to the enclave, oldest first, one at a time."""

    def __init__(self, link: EnclaveLink, journal: Journal, orders: Orders) -> None:
        self._link, self._journal, self._orders = link, journal, orders
        self._wake = asyncio.Event()
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    async def run(self) -> None:
        """Send what waits, for ever."""
        while True:
            await self._link.wait_ready()
            self._wake.clear()
            try:
                await self.send_pending()
            except (CoordinatorUnavailableError, SQLAlchemyError) as error:
                logger.warning("orders wait", extra={"kv": {"error": str(error)}})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()

    async def send_pending(self) -> None:
        """Every order that waits now, once; CoordinatorUnavailableError when there is no enclave any more."""
        waited_for = set(self._waiting)
        pending = await self._orders.pending()
        for reference in waited_for.difference(order.reference for order in pending):
            self._tell(reference)  # its leaf came without an answer: after a broken link, or through another process
        for order in pending:
            await self._send(order)

    async def decided(self, reference: str, *, limit_s: float) -> StoredOrder:
        """How the order stands once it is decided, or after `limit_s` seconds. Without an enclave at once."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(reference, []).append(waiter)
        self._wake.set()
        try:
            found = await self._orders.find(reference)
            if found.state == "pending" and self._link.ready:
                await asyncio.wait([waiter], timeout=limit_s)
                found = await self._orders.find(reference)
            return found
        finally:
            self._forget(reference, waiter)

    async def _send(self, order: StoredOrder) -> None:
        try:
            recorded = await self._link.call(RecordOrder(order.signed), OrderRecorded)
            await self._journal.durable(recorded.index)
        except CommandRefusedError as refused:
            if refused.refusal in LATER:
                raise CoordinatorUnavailableError(f"takes no orders now: {refused}") from refused
            await self._take_refusal(order, refused)
        self._tell(order.reference)

    async def _take_refusal(self, order: StoredOrder, refused: CommandRefusedError) -> None:
        """A duplicate is in the log, and so in the journal or on its way there, if it is this very order."""
        await self._journal.flush()
        if refused.refusal == DUPLICATE and (await self._orders.find(order.reference)).state == "recorded":
            return
        logger.error("order refused", extra={"kv": {"reference": order.reference, "refusal": str(refused)}})
        await self._orders.refuse(order.reference, str(refused))

    def _tell(self, reference: str) -> None:
        for waiter in self._waiting.get(reference, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _forget(self, reference: str, waiter: asyncio.Future[None]) -> None:
        waiting = self._waiting[reference]
        waiting.remove(waiter)
        if not waiting:
            del self._waiting[reference]
