"""Requests that wait, in order of arrival, for a slot of their model to become free, or for credit of their account.

The enclave counts both; the host only learns that something may have become free (a job was settled, a quote came) and
lets whoever waits longest ask again. Not every slot does for every request, so requests that ask for different things
stand in queues of their own: one that only a busy node can serve holds up nobody whom another node can serve. The
first of each queue also asks now and then by itself, since something may become free unseen. No account has more than
half of the places, so that others find one too.
"""

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

POLL_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Want:
    """What is waited for: something of `name`'s (a model, an account) that can do `needs` and is large enough."""

    name: str
    needs: frozenset[str] = frozenset()
    size: int = 0

    def yields_to(self, other: "Want") -> bool:
        """Whether all that would do for this one would do for the other as well."""
        return self.name == other.name and self.needs >= other.needs and self.size >= other.size


class Ticket:
    """An account's place in one queue. `arrival` numbers the tickets of all queues."""

    __slots__ = ("_waiter", "account", "arrival", "want", "woken")

    def __init__(self, want: Want, account: str, arrival: int) -> None:
        self.want, self.account, self.arrival = want, account, arrival
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
    """Queues of one kind, one for each different want, `waiting_max` places in all."""

    def __init__(self, *, waiting_max: int) -> None:
        self._waiting_max, self._account_max = waiting_max, (waiting_max + 1) // 2
        self._waiting: Counter[str] = Counter()
        self._arrivals = itertools.count()
        self._queues: dict[str, dict[Want, deque[Ticket]]] = {}

    def crowded(self, want: Want) -> bool:
        """Whether somebody waits who could take whatever a newcomer could; then the newcomer queues up first."""
        return any(want.yields_to(other) for other in self._queues.get(want.name, ()))

    @property
    def waiting(self) -> int:
        """How many wait, in all the queues together."""
        return self._waiting.total()

    def join(self, want: Want, *, account: str) -> Ticket | None:
        """A place at the end of this queue, None when there is no room to wait, or none for this account."""
        if self._waiting.total() >= self._waiting_max or self._waiting[account] >= self._account_max:
            return None
        self._waiting[account] += 1
        ticket = Ticket(want, account, next(self._arrivals))
        self._queues.setdefault(want.name, {}).setdefault(want, deque()).append(ticket)
        return ticket

    def patience_s(self, ticket: Ticket, limit_s: float) -> float:
        """How long to wait before asking unasked: of each name somebody does every POLL_S, the first of each queue."""
        queues = self._queues[ticket.want.name]
        return min(limit_s, POLL_S * len(queues)) if queues[ticket.want][0] is ticket else limit_s

    def leave(self, ticket: Ticket) -> None:
        """Give up the place, with an award or without; the next in line may have better luck."""
        queues = self._queues[ticket.want.name]
        tickets = queues[ticket.want]
        tickets.remove(ticket)
        self._waiting[ticket.account] -= 1
        if not self._waiting[ticket.account]:
            del self._waiting[ticket.account]
        if tickets:
            tickets[0].wake()
            return
        del queues[ticket.want]
        if not queues:
            del self._queues[ticket.want.name]

    def freed(self, name: str) -> None:
        """Some of this became free: of each queue, whoever waits longest and has not been woken asks again."""
        sleeping = (next((one for one in tickets if not one.woken), None) for tickets in self._of(name))
        _wake(one for one in sleeping if one is not None)

    def quoted(self, model: str) -> None:
        """A node offered this model: any number of slots."""
        _wake(itertools.chain.from_iterable(self._of(model)))

    def _of(self, name: str) -> Iterable[deque[Ticket]]:
        return self._queues.get(name, {}).values()


def _wake(tickets: Iterable[Ticket]) -> None:
    """In order of arrival, in which they will ask: none overtakes another that waits for the same slot."""
    for ticket in sorted(tickets, key=attrgetter("arrival")):
        ticket.wake()
