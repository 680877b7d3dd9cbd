"""Requests that wait, in order of arrival, for a slot of their model to become free, or for credit of their account.

The enclave counts both; the host only learns that something may have become free (a job was settled, a quote came) and
lets whoever waits longest ask again. The first of each queue also asks now and then by itself, since something may
become free unseen. No account has more than half of the places, so that others find one too.
"""

import asyncio
from collections import Counter, deque
from typing import Final

POLL_S: Final = 0.25


class Ticket:
    """An account's place in one queue."""

    __slots__ = ("_waiter", "account", "name", "woken")

    def __init__(self, name: str, account: str) -> None:
        self.name, self.account = name, account
        self.woken = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """It is worth asking again."""
        self.woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, limit_s: float) -> None:
        """Return when woken, or after `limit_s` seconds."""
        if not self.woken:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(max(limit_s, 0.0), self.wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        self.woken = False


class Capacity:
    """Queues of one kind, each with the name of what is waited for, `waiting_max` places in all."""

    def __init__(self, *, waiting_max: int) -> None:
        self._waiting_max, self._account_max = waiting_max, (waiting_max + 1) // 2
        self._waiting: Counter[str] = Counter()
        self._queues: dict[str, deque[Ticket]] = {}

    def crowded(self, name: str) -> bool:
        """Whether somebody waits for this already; then a newcomer queues up first."""
        return name in self._queues

    @property
    def waiting(self) -> int:
        """How many wait, in all the queues together."""
        return self._waiting.total()

    def join(self, name: str, *, account: str) -> Ticket | None:
        """A place at the end of this queue, None when there is no room to wait, or none for this account."""
        if self._waiting.total() >= self._waiting_max or self._waiting[account] >= self._account_max:
            return None
        self._waiting[account] += 1
        ticket = Ticket(name, account)
        self._queues.setdefault(name, deque()).append(ticket)
        return ticket

    def patience_s(self, ticket: Ticket, limit_s: float) -> float:
        """How long to wait before asking unasked: the first in the queue asks every POLL_S."""
        return min(limit_s, POLL_S) if self._queues[ticket.name][0] is ticket else limit_s

    def leave(self, ticket: Ticket) -> None:
        """Give up the place, with an award or without; the next in line may have better luck."""
        tickets = self._queues[ticket.name]
        tickets.remove(ticket)
        self._waiting[ticket.account] -= 1
        if not self._waiting[ticket.account]:
            del self._waiting[ticket.account]
        if tickets:
            tickets[0].wake()
        else:
            del self._queues[ticket.name]

    def freed(self, name: str) -> None:
        """Some of this became free: whoever waits longest and has not been woken asks again."""
        sleeping = next((one for one in self._queues.get(name, ()) if not one.woken), None)
        if sleeping is not None:
            sleeping.wake()

    def quoted(self, model: str) -> None:
        """A node offered this model: any number of slots."""
        for ticket in self._queues.get(model, ()):
            ticket.wake()
