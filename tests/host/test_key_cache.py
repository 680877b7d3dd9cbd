"""Looking keys up: few queries however many ask, and wrong keys displace no right one."""

import asyncio
from collections.abc import Sequence

import pytest

from pinaivu_host.store.key_cache import CACHED_KEYS_MAX, DIGESTS_PER_QUERY_MAX, KeyCache

pytestmark = pytest.mark.anyio
RIGHT = b"right"


class Store:
    """Knows RIGHT. Every query waits until `answering` is set."""

    def __init__(self) -> None:
        self.queries: list[set[bytes]] = []
        self.holder = "alice"
        self.fails = False
        self.asked, self.answering = asyncio.Event(), asyncio.Event()
        self.answering.set()

    async def find(self, digests: Sequence[bytes]) -> dict[bytes, str]:
        self.queries.append(set(digests))
        holder = self.holder
        self.asked.set()
        await self.answering.wait()
        if self.fails:
            raise ConnectionError("no database")
        return {RIGHT: holder} if RIGHT in digests else {}


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
async def cache(store: Store) -> KeyCache[str]:
    return KeyCache(store.find)


def wrong(number: int) -> bytes:
    return b"wrong %d" % number


async def test_what_was_found_and_what_was_not_are_remembered(store: Store, cache: KeyCache[str]) -> None:
    for _ in range(3):
        assert await cache.holder(RIGHT) == "alice"
        assert await cache.holder(wrong(1)) is None
    assert store.queries == [{RIGHT}, {wrong(1)}]


async def test_two_seconds_later_both_are_looked_up_again(store: Store, cache: KeyCache[str]) -> None:
    assert (await cache.holder(RIGHT), await cache.holder(wrong(1))) == ("alice", None)
    cache.known[RIGHT].until -= 2.0
    cache.unknown[wrong(1)] -= 2.0
    assert (await cache.holder(RIGHT), await cache.holder(wrong(1))) == ("alice", None)
    assert len(store.queries) == 4


async def test_a_flood_of_wrong_keys_makes_nobody_forget_a_right_one(store: Store, cache: KeyCache[str]) -> None:
    await cache.holder(RIGHT)
    cache.known[RIGHT].until += 60.0  # however long the flood takes
    await asyncio.gather(*(cache.holder(wrong(number)) for number in range(CACHED_KEYS_MAX + 1000)))
    before = len(store.queries)
    assert await cache.holder(RIGHT) == "alice"
    assert len(store.queries) == before
    assert len(cache.unknown) == CACHED_KEYS_MAX


async def test_all_who_ask_while_a_query_runs_share_the_next_ones(store: Store, cache: KeyCache[str]) -> None:
    store.answering.clear()
    first = asyncio.create_task(cache.holder(wrong(0)))
    await store.asked.wait()
    later = [asyncio.create_task(cache.holder(digest)) for digest in (*map(wrong, range(1, 700)), RIGHT)]
    again = asyncio.create_task(cache.holder(wrong(0)))
    await asyncio.sleep(0)
    store.answering.set()
    assert await asyncio.gather(first, again, *later) == [None] * 701 + ["alice"]
    assert [len(digests) for digests in store.queries] == [1, DIGESTS_PER_QUERY_MAX, 700 - DIGESTS_PER_QUERY_MAX]


async def test_as_it_is_now_is_never_the_answer_of_a_query_that_had_begun(store: Store, cache: KeyCache[str]) -> None:
    store.answering.clear()
    before = asyncio.create_task(cache.holder(RIGHT))
    await store.asked.wait()
    store.holder = "bob"
    now = asyncio.create_task(cache.holder_now(RIGHT))
    await asyncio.sleep(0)
    store.answering.set()
    assert (await before, await now) == ("alice", "bob")
    assert await cache.holder(RIGHT) == "bob"


async def test_a_query_that_fails_is_an_error_for_all_who_waited_and_is_not_remembered(
    store: Store, cache: KeyCache[str]
) -> None:
    store.fails = True
    failed = await asyncio.gather(cache.holder(RIGHT), cache.holder(wrong(1)), return_exceptions=True)
    assert [type(error) for error in failed] == [ConnectionError, ConnectionError]
    store.fails = False
    assert await cache.holder(RIGHT) == "alice"


async def test_who_stops_waiting_takes_the_answer_from_nobody(store: Store, cache: KeyCache[str]) -> None:
    store.answering.clear()
    leaving, staying = (asyncio.create_task(cache.holder(RIGHT)) for _ in range(2))
    await store.asked.wait()
    leaving.cancel()
    store.answering.set()
    assert await staying == "alice"
