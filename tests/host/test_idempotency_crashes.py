"""A key's job is charged for once, whenever the host dies and whatever of its last words got lost.

A crash is a copy of the database as it is on disk at that moment, and a new host that finds it.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.host.fake_node import endless
from tests.host.keyed import ask, receipts, spent
from tests.host.shape import check_shape
from tests.host.town import Town

from pinaivu_host.gateway import settlement
from pinaivu_host.store.engine import FILE_NAME
from pinaivu_shared.wire.link import OpenJob, SettleJob

pytestmark = pytest.mark.anyio


async def crash(town: Town) -> None:
    """End the host as far as anybody else can tell, and start one on what it left on disk."""
    await begin_again(town, copy_disk(town))


def copy_disk(town: Town) -> Path:
    """What a crash at this moment would leave."""
    left = town.folder / f"crash {town.port}"
    left.mkdir()
    with (
        closing(sqlite3.connect(town.folder / "data" / FILE_NAME)) as source,
        closing(sqlite3.connect(left / FILE_NAME)) as target,
    ):
        source.backup(target)
    return left


async def begin_again(town: Town, left: Path) -> None:
    """A host that finds this on its disk, and the enclave that the former one had."""
    await cut_link(town)
    tasks = [*town.server.server_state.tasks, *town.host.idempotency._jobs]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for node in town.nodes:
        await node.stop()
    town.nodes.clear()
    await town.close_host()
    await asyncio.to_thread(shutil.rmtree, town.folder / "data")
    await asyncio.to_thread(left.rename, town.folder / "data")
    await town.open_host()
    await town.host.link.wait_ready()


async def cut_link(town: Town) -> None:
    """The host says nothing more to the enclave."""
    for task in town.host._running:
        task.cancel()
    await asyncio.gather(*town.host._running, return_exceptions=True)


@asynccontextmanager
async def settling_without_disk(town: Town, **fields: Any) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """A request whose job the enclave settles while nothing can be written any more, until the block ends."""
    town.enclave.silent_on = (SettleJob,)
    asked = asyncio.create_task(ask(town, **fields))
    await town.enclave.heard(SettleJob)
    with closing(sqlite3.connect(town.folder / "data" / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        town.enclave.silent_on = ()
        town.enclave.drop()  # it is told again over another connection
        await town.enclave.heard(SettleJob, count=2)
        yield asked


async def served_after_crash(town: Town, **fields: Any) -> httpx.Response:
    """The answer to the same request at the new host; it is charged for once, and given again as often as one likes."""
    if not town.nodes:
        await town.node()
    answer = await ask(town, **fields)
    assert answer.status_code == 200, answer.text
    assert (await ask(town, **fields)).content == answer.content
    charges = [one for one in await receipts(town) if one[1] > 0]
    assert [one[0] for one in charges] == [answer.headers["x-request-id"]]
    assert await spent(town) == charges[0][1]
    assert not town.host.journal.records
    return answer


async def test_a_crash_before_the_auction_leaves_a_key_that_can_be_used(town: Town) -> None:
    await town.node()
    town.enclave.silent_on = (OpenJob,)
    asked = asyncio.create_task(ask(town))
    await town.enclave.heard(OpenJob)
    town.enclave.silent_on = ()
    await crash(town)
    await asyncio.gather(asked, return_exceptions=True)
    await served_after_crash(town)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_crash_while_a_node_answers_costs_nothing(town: Town, *, stream: bool) -> None:
    node = await town.node(endless)
    asked = asyncio.create_task(ask(town, stream=stream))
    await node.told(offers=1)
    await crash(town)
    await asyncio.gather(asked, return_exceptions=True)
    await served_after_crash(town, stream=stream)
    assert [charge > 0 for _, charge in await receipts(town)] == [False, True]


async def test_a_crash_between_answer_and_settlement_costs_nothing(town: Town) -> None:
    await town.node()
    town.enclave.silent_on = (SettleJob,)
    asked = asyncio.create_task(ask(town))
    await town.enclave.heard(SettleJob)
    town.enclave.silent_on = ()
    await crash(town)
    await asyncio.gather(asked, return_exceptions=True)
    await served_after_crash(town)
    assert [charge > 0 for _, charge in await receipts(town)] == [False, True]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_crash_between_the_enclaves_receipt_and_our_disk_keeps_answer_charge_and_owner(
    town: Town, *, stream: bool
) -> None:
    await town.node()
    async with settling_without_disk(town, stream=stream) as asked:
        left = copy_disk(town)
        await cut_link(town)
    await begin_again(town, left)
    await asyncio.gather(asked, return_exceptions=True)
    answer = await served_after_crash(town, stream=stream)
    assert answer.headers["idempotent-replayed"] == "true"
    assert len(town.enclave.all_of(OpenJob)) == 1
    bundle = await town.client().get(f"/v1/receipts/{answer.headers['x-request-id']}/bundle")
    assert bundle.json()["opening"]["salt"] == answer.headers["x-pinaivu-salt"]


async def test_a_settlement_that_was_lost_is_made_up_for_by_the_next_request(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "RECONNECT_LIMIT_S", 0.0)
    await town.node()
    town.enclave.silent_on = (SettleJob,)
    asked = asyncio.create_task(ask(town))
    await town.enclave.heard(SettleJob)
    town.enclave.silent_on = ()
    town.enclave.drop()
    check_shape(await asked, 503, "server_error", "coordinator_unavailable")
    await town.host.link.wait_ready()
    again = await served_after_crash(town)
    assert again.headers["x-request-id"] != asked.result().headers["x-request-id"]
    assert [charge > 0 for _, charge in await receipts(town)] == [False, True]


async def test_a_receipt_that_reached_the_disk_too_late_for_its_caller_is_found_by_the_next_request(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "DURABLE_LIMIT_S", 0.0)
    await town.node()
    async with settling_without_disk(town) as asked:
        check_shape(await asked, 503, "server_error", "coordinator_unavailable")
        early = asyncio.create_task(ask(town))
        await town.enclave.heard(SettleJob, count=3)  # it finds nothing on the disk, but does not believe that
    again = await served_after_crash(town)
    assert (await early).content == again.content
    assert again.headers["x-request-id"] == asked.result().headers["x-request-id"]
    assert len(town.enclave.all_of(OpenJob)) == 1
