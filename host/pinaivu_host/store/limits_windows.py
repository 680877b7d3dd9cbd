"""The storage that the package `limits` counts in, as SQL, and what its sliding windows do not say of themselves.

A sliding window is two counters: what was used in this minute, and in the one before, which counts the less the longer
ago it ended. One object is for one transaction, at one time; who holds the transaction sees nobody else's.
"""

import functools
from math import floor
from typing import Final, NamedTuple

from limits.storage import Storage
from limits.storage.base import SlidingWindowCounterSupport, TimestampedSlidingWindow
from sqlalchemy import Connection, Executable, bindparam, case, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from pinaivu_host.store.limits_schema import WINDOWS

_COUNT: Final = WINDOWS.c["count"]


class Window(NamedTuple):
    """Counts, and for how long each will still count, in seconds."""

    previous: int
    previous_s: float
    current: int
    current_s: float

    def full_s(self) -> float:
        """Until nothing counts any more."""
        return self.current_s if self.current else self.previous_s if self.previous else 0.0

    def wait_s(self, *, limit: int, cost: int, window_s: int) -> int:
        """Whole seconds, 1 at least, after which `cost` is free, if nobody takes it meanwhile; `cost` <= `limit`."""
        room = limit - cost + 1  # what counts must be below this
        if self.current < room:
            wait = self.previous_s - (room - self.current) * window_s / self.previous if self.previous else 0.0
        else:
            wait = self.current_s - room * window_s / self.current
        return floor(max(wait, 0.0) + 1e-6) + 1


class SqlWindows(Storage, SlidingWindowCounterSupport, TimestampedSlidingWindow):
    """Counters with an expiry by key; each window has the keys that `TimestampedSlidingWindow` gives it.

    What was read once is remembered for as long as the object lives.
    """

    STORAGE_SCHEME = None

    def __init__(self, connection: Connection, now_ms: int) -> None:
        super().__init__()
        self._connection, self._now_ms = connection, now_ms
        self._counts: dict[str, int] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        """What goes wrong here."""
        return SQLAlchemyError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count `amount` more; the sum."""
        row = {"key": key, "count": amount, "expires_ms": self._now_ms + expiry * 1000}
        self._counts[key] = int(self._connection.execute(_add(self._connection.dialect.name), row).scalar_one())
        return self._counts[key]

    def decrease(self, key: str, amount: int) -> None:
        """Count `amount` less, down to nothing; a counter that has gone stays gone."""
        self._connection.execute(_DECREASE, {"name": key, "amount": amount})
        self._counts.pop(key, None)

    def get(self, key: str) -> int:
        """The sum, 0 where there is none or its time is over."""
        self._read(key)
        return self._counts[key]

    def get_expiry(self, key: str) -> float:
        """When the counter's time is over, in seconds since 1970; now, where there is none."""
        query = select(WINDOWS.c.expires_ms).where(WINDOWS.c.key == key)
        return float(self._connection.execute(query).scalar() or self._now_ms) / 1000

    def check(self) -> bool:
        """Whoever has a connection has a storage."""
        return True

    def reset(self) -> int:
        """Forget everything; how many counters that were."""
        self._counts.clear()
        return self._connection.execute(delete(WINDOWS)).rowcount

    def clear(self, key: str) -> None:
        """Forget one counter."""
        self._counts.pop(key, None)
        self._connection.execute(delete(WINDOWS).where(WINDOWS.c.key == key))

    def window_key(self, key: str, expiry: int) -> str:
        """The name of the counter that a hit at this time goes to."""
        return self.sliding_window_keys(key, expiry, self._now_ms / 1000)[1]

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Take `amount`, or nothing."""
        window = Window(*self.get_sliding_window(key, expiry))
        counted = window.previous * window.previous_s / expiry + window.current
        if floor(counted) + amount > limit:
            return False
        self.incr(self.window_key(key, expiry), 2 * expiry, amount)
        return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """A `Window`."""
        previous, current = self.sliding_window_keys(key, expiry, self._now_ms / 1000)
        self._read(previous, current)
        left_s = expiry - self._now_ms / 1000 % expiry
        return Window(self._counts[previous], left_s, self._counts[current], left_s + expiry)

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget both counters."""
        for name in self.sliding_window_keys(key, expiry, self._now_ms / 1000):
            self.clear(name)

    def _read(self, *keys: str) -> None:
        unread = [key for key in keys if key not in self._counts]
        if unread:
            found = self._connection.execute(_FIND, {"names": unread, "now_ms": self._now_ms})
            self._counts |= dict.fromkeys(unread, 0) | {row.key: row[1] for row in found}


# Made once: they are executed for every request of a key with limits.
_FIND: Final = select(WINDOWS.c.key, _COUNT).where(
    WINDOWS.c.key.in_(bindparam("names", expanding=True)), WINDOWS.c.expires_ms > bindparam("now_ms")
)
_DECREASE: Final = (
    update(WINDOWS)
    .where(WINDOWS.c.key == bindparam("name"))
    .values({_COUNT: case((bindparam("amount") < _COUNT, _COUNT - bindparam("amount")), else_=0)})
)


@functools.cache
def _add(dialect: str) -> Executable:
    new = (postgresql if dialect == "postgresql" else sqlite).insert(WINDOWS)
    added = {"count": _COUNT + new.excluded["count"]}
    adding: Executable = new.on_conflict_do_update(index_elements=[WINDOWS.c.key], set_=added).returning(_COUNT)
    return adding
