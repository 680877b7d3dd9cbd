"""The queues for a free slot: nobody waits behind a request that could not take the slot he could take."""

import asyncio
from typing import Any

import httpx
import pytest
from tests.host.fake_node import EVERYTHING, Gate, echoing
from tests.host.keyed import wait_until
from tests.host.town import Town, request

from pinaivu_host.capacity import POLL_S, Capacity, Ticket, Want

pytestmark = pytest.mark.anyio
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
NO_TOOLS = tuple(one for one in EVERYTHING if one != "tools")
PLAIN, SPECIAL, LONG = (
    Want("m", frozenset({"chat"}), 7),
    Want("m", frozenset({"chat", "tools"}), 7),
    Want("m", frozenset({"chat"}), 17),
)


def queue(capacity: Capacity, *wants: Want) -> list[Ticket]:
    tickets = [capacity.join(want, account="acct_1") for want in wants]
    assert all(tickets)
    return [one for one in tickets if one is not None]


def woken(*tickets: Ticket) -> list[bool]:
    return [one.woken for one in tickets]


async def ask(town: Town, key: str | None = None, **fields: Any) -> httpx.Response:
    return await town.client(key).post("/v1/chat/completions", json=request(**fields))


@pytest.mark.parametrize(
    "special", [{"tools": TOOLS}, {"messages": [{"role": "user", "content": "x" * 100_000}]}], ids=["tools", "long"]
)
async def test_who_waits_for_the_one_node_that_can_serve_him_holds_up_nobody_whom_another_can(
    town: Town, special: dict[str, Any]
) -> None:
    gate = Gate()
    await town.node(gate.script, slots=1)
    running = asyncio.create_task(ask(town, **special))
    await gate.begun.wait()
    narrow = {"capabilities": NO_TOOLS} if "tools" in special else {"context_length": 10_000}
    await town.node(echoing("hi"), **narrow)
    waiting = asyncio.create_task(ask(town, **special))
    await wait_until(lambda: town.host.market.capacity.waiting == 1)
    answers = await asyncio.gather(*(ask(town) for _ in range(20)))
    assert {one.status_code for one in answers} == {200}
    assert not waiting.done()
    gate.proceed.set()
    assert [(await one).status_code for one in (running, waiting)] == [200, 200]


def test_a_newcomer_queues_up_behind_those_who_ask_for_no_more_than_he_does() -> None:
    for waits, behind in {PLAIN: {PLAIN, SPECIAL, LONG}, SPECIAL: {SPECIAL}, LONG: {LONG}}.items():
        capacity = Capacity(waiting_max=2)
        (ticket,) = queue(capacity, waits)
        assert {want for want in (PLAIN, SPECIAL, LONG) if capacity.crowded(want)} == behind
        assert not capacity.crowded(Want("other", waits.needs, waits.size))
        capacity.leave(ticket)
        assert not capacity.crowded(waits)


def test_what_becomes_free_wakes_the_first_of_each_queue_of_its_model() -> None:
    capacity = Capacity(waiting_max=20)
    special, first, second, long = queue(capacity, SPECIAL, PLAIN, PLAIN, LONG)
    (other,) = queue(capacity, Want("other", PLAIN.needs, PLAIN.size))
    capacity.freed("m")
    assert woken(special, first, second, long, other) == [True, True, False, True, False]
    capacity.freed("m")
    assert woken(second, other) == [True, False]
    capacity.quoted("other")
    assert other.woken


async def test_they_ask_in_order_of_arrival_whichever_queue_is_older() -> None:
    capacity = Capacity(waiting_max=20)
    former, special, long, plain = queue(capacity, PLAIN, SPECIAL, LONG, PLAIN)
    capacity.leave(former)
    plain.woken = False  # which has asked, and in vain
    asked: list[Ticket] = []

    async def wait(ticket: Ticket) -> None:
        await ticket.wait(60)
        asked.append(ticket)

    waiting = [asyncio.create_task(wait(one)) for one in (plain, long, special)]
    await asyncio.sleep(0)
    capacity.freed("m")
    await asyncio.gather(*waiting)
    assert asked == [special, long, plain]


def test_the_first_of_each_queue_asks_unasked_the_more_seldom_the_more_queues_there_are() -> None:
    capacity = Capacity(waiting_max=20)
    first, second = queue(capacity, PLAIN, PLAIN)
    assert (capacity.patience_s(first, 60), capacity.patience_s(second, 60)) == (POLL_S, 60)
    (special,) = queue(capacity, SPECIAL)
    assert {capacity.patience_s(one, 60) for one in (first, special)} == {2 * POLL_S}
    assert capacity.patience_s(first, 0.1) == 0.1
    capacity.leave(special)
    capacity.leave(first)
    assert (second.woken, capacity.patience_s(second, 60)) == (True, POLL_S)


def test_all_queues_together_have_so_many_places_and_an_account_half_of_them() -> None:
    capacity = Capacity(waiting_max=3)
    queue(capacity, PLAIN, SPECIAL)
    assert capacity.join(LONG, account="acct_1") is None
    assert capacity.join(LONG, account="acct_2") is not None
    assert capacity.join(LONG, account="acct_3") is None
    assert capacity.waiting == 3
