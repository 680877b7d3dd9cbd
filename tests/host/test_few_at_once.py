"""Work that everybody may ask for: few at a time, and no more that wait than can be remembered."""

import asyncio

import pytest

from pinaivu_host.gateway.error_table import OVERLOADED
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.few_at_once import CONCURRENT_MAX, WAITING_MAX, FewAtOnce

pytestmark = pytest.mark.anyio


async def test_few_work_the_others_wait_and_the_rest_is_turned_away() -> None:
    turns, proceed, working = FewAtOnce("statements"), asyncio.Event(), 0

    async def work() -> None:
        nonlocal working
        async with turns.turn():
            working += 1
            await proceed.wait()

    tasks = [asyncio.create_task(work()) for _ in range(WAITING_MAX)]
    await asyncio.sleep(0)
    assert working == CONCURRENT_MAX
    with pytest.raises(ApiError, match="too many statements are asked for, try again") as caught:
        await work()
    assert caught.value.kind is OVERLOADED
    proceed.set()
    await asyncio.gather(*tasks)
    assert working == WAITING_MAX


async def test_work_that_fails_gives_its_turn_back() -> None:
    turns = FewAtOnce("statements")
    for _ in range(WAITING_MAX + 1):
        with pytest.raises(ZeroDivisionError):
            async with turns.turn():
                raise ZeroDivisionError
