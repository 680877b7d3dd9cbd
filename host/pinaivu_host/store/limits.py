"""The limits of API keys, counted for all gateways together: a request takes everything it needs, or nothing.

Requests and tokens of a minute are the package `limits`' sliding windows (`store.limits_windows`). What runs at once,
and what it may cost, are leases, which end with their job or, should the gateway die, at their expiry. One transaction
decides over one request, and no other request of the key is decided meanwhile.
"""

import asyncio
import contextlib
import functools
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.strategies import SlidingWindowCounterRateLimiter
from sqlalchemy import Connection, bindparam, delete, func, insert, select, text, update

from pinaivu_host.store.api_keys import KeyLimits
from pinaivu_host.store.database import Database
from pinaivu_host.store.key_charges import charged_in, month_start_ms
from pinaivu_host.store.limits_schema import LEASES, WINDOWS, open_counters
from pinaivu_host.store.limits_windows import SqlWindows, Window

_Found = TypeVar("_Found")
Measure = Literal["requests", "tokens"]
Reached = Literal["requests", "tokens", "size", "concurrent", "budget", "held"]
MINUTE_MS: Final = 60_000
_STANDING: Final = select(func.sum(LEASES.c.running), func.sum(LEASES.c.reserved_micro_usdc)).where(
    LEASES.c.key_id == bindparam("key_id"), LEASES.c.expires_ms > bindparam("now_ms")
)
_LEASE: Final = insert(LEASES)
_LOCK: Final = text("SELECT pg_advisory_xact_lock(:place)")
_TRY_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(-1)")


@dataclass(frozen=True, slots=True)
class Demand:
    """What one request needs. `tokens_of` is told how long the answer may be, `cost_within` what is left to pay it.

    `tokens_of` answers with the tokens that must be left, and with those to take if they are.

    `cost_within` answers with a charge and the tokens that it is for, or None where nothing can be had for so little.
    """

    lease_id: str
    key_id: str
    limits: KeyLimits
    tokens_of: Callable[[int], tuple[int, int]]
    cost_within: Callable[[int], tuple[int, int] | None]
    max_tokens: int
    asked_ms: int  # of which month the request is
    lease_ms: int

    @property
    def leases(self) -> bool:
        """Whether there is a limit of what runs, or of what it may cost."""
        return self.limits.concurrent_requests is not None or self.limits.has_budget


@dataclass(frozen=True, slots=True)
class Level:
    """How full a window is, after the request was decided."""

    limit: int
    remaining: int
    full_ms: int


Levels = dict[Measure, Level]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request took: `tokens` of the minute that `counter` names, and a lease. `max_tokens` may be fewer.

    `window` names the window whatever the minute.
    """

    lease_id: str
    levels: Levels
    max_tokens: int
    tokens: int = 0
    counter: str = ""
    window: str = ""
    leased: bool = False


class LimitReachedError(Exception):
    """The request took nothing. `wait_s` is of a window: when there will be room, unless somebody else takes it.

    `size`: it needs more tokens than a minute has. `held`: the budget would do, but for what running requests may cost.
    """

    def __init__(self, limit: Reached, wait_s: int = 0) -> None:
        super().__init__(limit)
        self.limit: Final = limit
        self.wait_s: Final = wait_s
        self.levels: Levels = {}


class LimitStore:
    """Short transactions in threads of its own: one on SQLite, which has one writer anyway."""

    def __init__(self, database: Database, *, now_ms: Callable[[], int]) -> None:
        self._database, self._now_ms = database, now_ms
        self._engine: Final = open_counters(database.engine)
        self._own: Final = self._engine is not database.engine
        self._threads = ThreadPoolExecutor(1 if self._own else 4, thread_name_prefix="limits")
        self._cleaned_ms = 0

    async def take(self, demand: Demand) -> Grant:
        """All that the request needs; LimitReachedError where there is less."""
        return await self._run(functools.partial(self._take, demand))

    async def count(self, key_id: str, limits: KeyLimits) -> Levels:
        """One request, and nothing else; LimitReachedError where it is one too many."""
        return await self._run(functools.partial(self._count, key_id, limits))

    async def levels(self, key_id: str, limits: KeyLimits) -> Levels:
        """How full the windows are."""
        return await self._run(functools.partial(self._levels, key_id, limits))

    async def settle(self, grant: Grant, used: int | None, *, keep_reserved: bool) -> None:
        """The request is over, and used so many tokens (None: that is not known, so all that it took stays taken).

        With `keep_reserved` what it may cost stays reserved until the lease expires: its charge may still come.
        """
        await self._run(functools.partial(self._settle, grant, used, keep_reserved))

    def close(self) -> None:
        """Wait for what runs."""
        self._threads.shutdown()
        if self._own:
            self._engine.dispose()

    async def _run(self, change: Callable[[Connection, int], _Found]) -> _Found:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._transact, change)

    def _transact(self, change: Callable[[Connection, int], _Found]) -> _Found:
        with self._engine.begin() as connection:
            return change(connection, self._now_ms())

    def _take(self, demand: Demand, connection: Connection, now_ms: int) -> Grant:
        _lock(connection, demand.key_id)
        self._clean(connection, now_ms)
        windows = _Windows(connection, now_ms, demand.key_id, demand.limits)
        with windows.shown_on_refusal():
            running, held = _standing(connection, demand, now_ms)
            if running >= (demand.limits.concurrent_requests or running + 1):
                raise LimitReachedError("concurrent")
            windows.check("requests", 1)
            reserved, max_tokens = self._reserve(demand, held)
            least, most = demand.tokens_of(max_tokens)
            windows.check("tokens", least)
            tokens = windows.left("tokens", most)
        windows.take("requests", 1)
        counter, window = windows.take("tokens", tokens)
        if demand.leases:
            _lease(connection, demand, reserved, now_ms)
        taken = tokens if counter else 0
        return Grant(demand.lease_id, windows.levels(), max_tokens, taken, counter, window, demand.leases)

    def _reserve(self, demand: Demand, held: int) -> tuple[int, int]:
        """What the request may cost, and for how many tokens, where leases hold so much of the budget.

        They were read before the charges: a job that ends in between is counted twice, and never not at all.
        """
        budget = demand.limits.monthly_budget
        if budget is None:
            return 0, demand.max_tokens
        with self._database.engine.connect() as other:
            left = budget - charged_in(other, demand.key_id, month_start_ms(demand.asked_ms))
        found = demand.cost_within(left - held)
        if held and (found is None or found[1] < demand.max_tokens):  # shorter only if nothing else will be free soon
            raise LimitReachedError("budget" if demand.cost_within(left) is None else "held")
        if found is None:
            raise LimitReachedError("budget")
        return found

    def _count(self, key_id: str, limits: KeyLimits, connection: Connection, now_ms: int) -> Levels:
        _lock(connection, key_id)
        windows = _Windows(connection, now_ms, key_id, limits)
        with windows.shown_on_refusal():
            windows.check("requests", 1)
        windows.take("requests", 1)
        return windows.levels()

    @staticmethod
    def _levels(key_id: str, limits: KeyLimits, connection: Connection, now_ms: int) -> Levels:
        return _Windows(connection, now_ms, key_id, limits).levels()

    @staticmethod
    def _settle(grant: Grant, used: int | None, keep_reserved: bool, connection: Connection, now_ms: int) -> None:  # noqa: FBT001 - bound by name above
        if grant.counter and used is not None and used != grant.tokens:
            storage = SqlWindows(connection, now_ms)
            if used < grant.tokens:
                storage.decrease(grant.counter, grant.tokens - used)
            else:  # in this minute, in which it is known: the one that the request began in may count no more
                minute_s = MINUTE_MS // 1000
                storage.incr(storage.window_key(grant.window, minute_s), 2 * minute_s, used - grant.tokens)
        if not grant.leased:
            return
        mine = LEASES.c.lease_id == grant.lease_id
        connection.execute(
            update(LEASES).where(mine).values(running=0) if keep_reserved else delete(LEASES).where(mine)
        )

    def _clean(self, connection: Connection, now_ms: int) -> None:
        """What has expired is not looked at; about once a minute it goes, by one gateway's hand at a time."""
        if now_ms - self._cleaned_ms < MINUTE_MS:
            return
        if connection.dialect.name == "postgresql" and not connection.execute(_TRY_LOCK).scalar():
            return
        for table in (WINDOWS, LEASES):
            connection.execute(delete(table).where(table.c.expires_ms <= now_ms))
        self._cleaned_ms = now_ms


class _Windows:
    """The windows of one key in one transaction; those without a limit are not there."""

    def __init__(self, connection: Connection, now_ms: int, key_id: str, limits: KeyLimits) -> None:
        self._storage = SqlWindows(connection, now_ms)
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)
        self._key_id = key_id
        given: dict[Measure, int | None] = {"requests": limits.requests_per_minute, "tokens": limits.tokens_per_minute}
        self._items = {measure: _per_minute(amount) for measure, amount in given.items() if amount is not None}

    @contextlib.contextmanager
    def shown_on_refusal(self) -> Iterator[None]:
        """Say how full the windows are when a limit is reached."""
        try:
            yield
        except LimitReachedError as error:
            error.levels = self.levels()
            raise

    def check(self, measure: Measure, amount: int) -> None:
        """LimitReachedError where so much is not left."""
        item = self._items.get(measure)
        if item is None:
            return
        if amount > item.amount:
            raise LimitReachedError("size")
        if not self._limiter.test(item, self._key_id, measure, cost=amount):
            wait_s = self._window(item, measure).wait_s(limit=item.amount, cost=amount, window_s=item.get_expiry())
            raise LimitReachedError(measure, wait_s)

    def left(self, measure: Measure, most: int) -> int:
        """So much, or what is left if that is less."""
        item = self._items.get(measure)
        return most if item is None else min(most, self._level(item, measure).remaining)

    def take(self, measure: Measure, amount: int) -> tuple[str, str]:
        """The counter that it was taken from, and its window; empty without a limit. It must have been checked."""
        item = self._items.get(measure)
        if item is None:
            return "", ""
        taken = self._limiter.hit(item, self._key_id, measure, cost=amount)
        assert taken, "somebody else has taken it"
        window = item.key_for(self._key_id, measure)
        return self._storage.window_key(window, item.get_expiry()), window

    def levels(self) -> Levels:
        """How full they are."""
        return {measure: self._level(item, measure) for measure, item in self._items.items()}

    def _level(self, item: RateLimitItem, measure: Measure) -> Level:
        remaining = self._limiter.get_window_stats(item, self._key_id, measure).remaining
        return Level(item.amount, remaining, round(self._window(item, measure).full_s() * 1000))

    def _window(self, item: RateLimitItem, measure: Measure) -> Window:
        return Window(*self._storage.get_sliding_window(item.key_for(self._key_id, measure), item.get_expiry()))


@functools.lru_cache(1024)
def _per_minute(amount: int) -> RateLimitItem:
    return RateLimitItemPerMinute(amount)


def _lock(connection: Connection, key_id: str) -> None:
    """On PostgreSQL one transaction at a time for each key; on SQLite there is one in all."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, {"place": zlib.crc32(key_id.encode())})


def _standing(connection: Connection, demand: Demand, now_ms: int) -> tuple[int, int]:
    """How many requests of the key run, and what they and those without a receipt may cost."""
    if not demand.leases:
        return 0, 0
    running, reserved = connection.execute(_STANDING, {"key_id": demand.key_id, "now_ms": now_ms}).one()
    return int(running or 0), int(reserved or 0)


def _lease(connection: Connection, demand: Demand, reserved: int, now_ms: int) -> None:
    row = {
        "lease_id": demand.lease_id,
        "key_id": demand.key_id,
        "running": 1,
        "reserved_micro_usdc": reserved,
        "expires_ms": now_ms + demand.lease_ms,
    }
    connection.execute(_LEASE, row)
