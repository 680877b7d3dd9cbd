"""Who holds which key, as of at most CACHE_S ago, with one query at a time for all who wait for an answer.

What is looked up is a key's digest, so how long it takes says nothing about keys. Keys that nobody has are remembered
apart from those that somebody has, and oldest are forgotten first: a flood of wrong keys displaces no right one, is
answered by few queries, and a right key waits for one of them at most that has begun and for its turn.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

CACHE_S: Final = 1.0
CACHED_KEYS_MAX: Final = 10_000
"""As many of keys that somebody has, and as many of those that nobody has."""
DIGESTS_PER_QUERY_MAX: Final = 500

_Holder = TypeVar("_Holder")
_Found = dict[bytes, _Holder]
Find = Callable[[Sequence[bytes]], Awaitable[_Found[_Holder]]]
"""Those of the digests that somebody's key has, and whose."""


@dataclass(slots=True)
class _Known(Generic[_Holder]):
    until: float
    holder: _Holder


@dataclass(slots=True, eq=False)
class _Query(Generic[_Holder]):
    """Takes digests until it begins."""

    digests: set[bytes]
    found: asyncio.Task[_Found[_Holder]]


class KeyCache(Generic[_Holder]):
    """`find` looks in the database. `known` has what was found, `unknown` until when what was not found is believed."""

    def __init__(self, find: Find[_Holder]) -> None:
        self._find = find
        self.known: Final[OrderedDict[bytes, _Known[_Holder]]] = OrderedDict()
        self.unknown: Final[OrderedDict[bytes, float]] = OrderedDict()
        self._running: _Query[_Holder] | None = None
        self._gathering: _Query[_Holder] | None = None
        self._newest: asyncio.Task[_Found[_Holder]] | None = None

    async def holder(self, digest: bytes) -> _Holder | None:
        """The holder as of at most CACHE_S ago, None if there is none."""
        now = asyncio.get_running_loop().time()
        known = self.known.get(digest)
        if known is not None and known.until >= now:
            return known.holder
        if self.unknown.get(digest, 0.0) >= now:
            return None
        running = self._running
        query = running if running is not None and digest in running.digests else self._join(digest)
        return (await asyncio.shield(query.found)).get(digest)

    async def holder_now(self, digest: bytes) -> _Holder | None:
        """The same by a query that begins after this call."""
        return (await asyncio.shield(self._join(digest).found)).get(digest)

    def _join(self, digest: bytes) -> _Query[_Holder]:
        """The query that has not begun, with this digest in it."""
        query = self._gathering
        if query is None or len(query.digests) >= DIGESTS_PER_QUERY_MAX:
            digests: set[bytes] = set()
            self._newest = asyncio.create_task(self._ask(digests, self._newest), name="look-up of API keys")
            self._newest.add_done_callback(_retrieve)
            self._gathering = query = _Query(digests, self._newest)
        query.digests.add(digest)
        return query

    async def _ask(self, digests: set[bytes], former: asyncio.Task[_Found[_Holder]] | None) -> _Found[_Holder]:
        if former is not None:
            await asyncio.wait({former})
        mine = asyncio.current_task()
        assert mine is not None
        if self._gathering is not None and self._gathering.digests is digests:
            self._gathering = None
        until = asyncio.get_running_loop().time() + CACHE_S
        self._running = _Query(digests, mine)
        try:
            found = await self._find(tuple(digests))
        finally:
            self._running = None
        for digest in digests:
            self._remember(digest, found.get(digest), until)
        return found

    def _remember(self, digest: bytes, holder: _Holder | None, until: float) -> None:
        self.known.pop(digest, None)
        self.unknown.pop(digest, None)
        if holder is None:
            self.unknown[digest] = until
        else:
            self.known[digest] = _Known(until, holder)
        for memory in (self.known, self.unknown):
            if len(memory) > CACHED_KEYS_MAX:
                memory.popitem(last=False)


def _retrieve(query: asyncio.Task[_Found[_Holder]]) -> None:
    """Whoever waits hears of a failure; where nobody waits any more it is no news."""
    if not query.cancelled():
        query.exception()
