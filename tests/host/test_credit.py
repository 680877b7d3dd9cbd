"""Credit at the gateway: what running requests hold is waited for, and who is short holds up nobody else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.host.fake_node import Gate
from tests.host.shape import check_shape
from tests.host.town import Town, request

from pinaivu_shared.wire.link import AcceptAward, OpenJob

pytestmark = pytest.mark.anyio
PATH = "/v1/chat/completions"
ENOUGH_FOR_ONE = 20
"""Micro-USDC: less than an award holds where credit is plenty, so each job holds all that is there."""


async def first_of_two(town: Town, gate: Gate) -> tuple[Any, str]:
    """A running request that holds all of an account's credit, and the account's key."""
    await town.node(gate.script, slots=10)
    _, key = await town.account("short", credit=ENOUGH_FOR_ONE)
    running = asyncio.create_task(town.client(key).post(PATH, json=request()))
    await gate.begun.wait()
    return running, key


async def test_a_request_waits_for_credit_that_another_holds(town: Town) -> None:
    gate = Gate()
    running, key = await first_of_two(town, gate)
    waiting = asyncio.create_task(town.client(key).post(PATH, json=request()))
    await town.enclave.heard(OpenJob, count=2)
    gate.proceed.set()
    assert [(await one).status_code for one in (running, waiting)] == [200, 200]


async def test_an_account_that_waits_for_its_credit_holds_up_nobody_else(town: Town) -> None:
    gate = Gate()
    running, key = await first_of_two(town, gate)
    waiting = [asyncio.create_task(town.client(key).post(PATH, json=request())) for _ in range(3)]
    await town.enclave.heard(OpenJob, count=2)
    other = asyncio.create_task(town.chat())
    await town.enclave.heard(AcceptAward, count=2)  # the other's runs, those that came before it wait
    gate.proceed.set()
    assert [(await one).status_code for one in (running, other, *waiting)] == [200] * 5


@pytest.mark.parametrize("settings", [{"queue_ms": 50}, {"queue_max": 0}], ids=["its time is up", "there is no room"])
async def test_waiting_in_vain_is_429_and_worth_another_try(closed_town: Town, settings: dict[str, int]) -> None:
    town, gate = closed_town, Gate()
    town.settings |= settings
    await town.open()
    running, key = await first_of_two(town, gate)
    answer = await town.client(key).post(PATH, json=request())
    check_shape(answer, 429, "rate_limit_error", "insufficient_credit")
    assert "held by its running requests" in answer.json()["error"]["message"]
    assert answer.headers["retry-after"] == "1"
    assert "x-should-retry" not in answer.headers
    gate.proceed.set()
    assert (await running).status_code == 200
    await town.close()


@pytest.fixture
async def narrow_town(closed_town: Town) -> AsyncIterator[Town]:
    """Two may wait for a slot, and two for credit."""
    closed_town.settings["queue_max"] = 2
    await closed_town.open()
    yield closed_town
    await closed_town.close()


async def test_an_account_that_waits_for_its_credit_leaves_places_to_others(narrow_town: Town) -> None:
    town, gate = narrow_town, Gate()
    await town.node(gate.script, slots=10)
    clients = [town.client((await town.account(name, credit=ENOUGH_FOR_ONE))[1]) for name in ("one", "other")]
    asked = [asyncio.create_task(client.post(PATH, json=request())) for client in clients]
    await town.enclave.heard(AcceptAward, count=2)
    asked.append(asyncio.create_task(clients[0].post(PATH, json=request())))
    await town.enclave.heard(OpenJob, count=3)
    asked += [asyncio.create_task(client.post(PATH, json=request())) for client in clients]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    gate.proceed.set()
    assert [(await one).status_code for one in asked] == [200, 200, 200, 429, 200]


async def test_an_account_that_waits_for_a_slot_leaves_places_to_others(narrow_town: Town) -> None:
    town, gate = narrow_town, Gate()
    await town.node(gate.script, slots=1)
    _, other = await town.account("other", credit=1_000_000)
    running = asyncio.create_task(town.chat())
    await gate.begun.wait()
    asked = [asyncio.create_task(town.chat())]
    await town.enclave.heard(OpenJob, count=2)
    asked += [asyncio.create_task(town.client(key).post(PATH, json=request())) for key in (town.key, other)]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    gate.proceed.set()
    assert [(await one).status_code for one in (running, *asked)] == [200, 200, 503, 200]


async def test_what_is_left_and_pays_for_nothing_is_429(town: Town) -> None:
    await town.node()
    _, key = await town.account("poor", credit=1)
    answer = await town.client(key).post(PATH, json=request(messages=[{"role": "user", "content": "x" * 4000}]))
    check_shape(answer, 429, "rate_limit_error", "insufficient_credit")
    assert answer.headers["retry-after"] == "60"
    assert answer.headers["x-should-retry"] == "false"
