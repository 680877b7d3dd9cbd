"""`Idempotency-Key` where a job fails, its callers leave, or the enclave is away: nobody pays twice, or for nothing."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy.exc import OperationalError
from tests.host.fake_node import Offered, echoing, endless
from tests.host.keyed import ask, asking, first_piece, listeners, receipt_of, settled, wait_until
from tests.host.shape import check_shape
from tests.host.town import Town

from pinaivu_host.store.engine import FILE_NAME
from pinaivu_host.store.evidence import EvidenceStore
from pinaivu_host.store.idempotency import KeyStore, KeyUse, place_of
from pinaivu_shared.wire.link import OpenJob, SettleJob

pytestmark = pytest.mark.anyio


async def test_who_waited_for_a_job_hears_of_its_failure_and_the_next_one_begins_another(town: Town) -> None:
    together = asyncio.Event()

    async def script(offered: Offered) -> None:
        await offered.accept()
        await together.wait()
        await offered.prove("", outcome="failed", tokens=(0, 0))

    node = await town.node(script)
    waiting = [asyncio.create_task(ask(town)) for _ in range(5)]
    await node.told(offers=1)
    await listeners(town, 5)
    together.set()
    failures = await asyncio.gather(*waiting)
    assert {one.status_code for one in failures} == {502}
    assert len({one.content for one in failures}) == 1
    assert len(town.enclave.all_of(OpenJob)) == 1
    node.script = echoing("better")
    assert (await ask(town, temperature=1)).json()["choices"][0]["message"]["content"] == "better"


async def test_a_request_that_came_to_no_award_leaves_nothing_behind(town: Town) -> None:
    check_shape(await ask(town), 503, "server_error", "no_node_available")
    check_shape(await ask(town, n=0), 422, "invalid_request_error", "invalid_value")
    await town.node()
    assert (await ask(town, temperature=1)).status_code == 200
    assert settled(town) == [("completed", "")]


async def test_a_job_goes_on_while_one_of_its_callers_waits(town: Town) -> None:
    left = asyncio.Event()

    async def script(offered: Offered) -> None:
        await offered.accept()
        await offered.delta("Hel")
        await left.wait()
        await offered.delta("lo")
        await offered.delta(finish_reason="stop")
        await offered.prove("Hello")

    node = await town.node(script)
    async with asking(town) as second:
        async with asking(town) as first:
            await first_piece(first.aiter_lines())
            await listeners(town, 2)
        await listeners(town, 1)
        left.set()
        await second.aread()
    assert second.text.endswith("data: [DONE]\n\n")
    assert not node.cancels
    assert (await receipt_of(town, second))["outcome"] == "completed"


async def test_a_job_is_cut_short_when_its_last_caller_leaves_and_the_next_caller_begins_another(town: Town) -> None:
    node = await town.node(endless)
    async with asking(town) as first, asking(town) as second:
        await first_piece(first.aiter_lines())
        await first_piece(second.aiter_lines())
    await node.told(cancels=1)
    await town.enclave.heard(SettleJob)
    node.script = echoing("whole")
    again = await ask(town, stream=True)
    assert "whole" in again.text
    assert "idempotent-replayed" not in again.headers
    assert settled(town) == [("cancelled", "client_disconnected"), ("completed", "")]
    assert town.enclave.all_of(SettleJob)[0].delivery.delivered_bytes > 0


async def test_whoever_comes_while_a_job_is_being_cut_short_waits_and_begins_another(town: Town) -> None:
    prove = asyncio.Event()

    async def reluctant(offered: Offered) -> None:
        await offered.accept()
        await offered.delta("old")
        await offered.cancelled.wait()
        await prove.wait()
        await offered.prove("old", outcome="cancelled", finish_reason=None)

    node = await town.node(reluctant)
    async with asking(town) as first:
        await first_piece(first.aiter_lines())
    await node.told(cancels=1)
    node.script = echoing("new")
    lock = town.host.idempotency._locks.setdefault(place_of(town.account_id, "k"), asyncio.Lock())
    waiting = asyncio.create_task(ask(town, stream=True))
    await wait_until(lock.locked)
    prove.set()
    answer = await waiting
    assert "new" in answer.text
    assert "old" not in answer.text
    assert [outcome for outcome, _ in settled(town)] == ["cancelled", "completed"]


async def test_shutting_down_ends_a_job_and_tells_its_callers(town: Town) -> None:
    await town.node(endless)
    async with asking(town) as running:
        lines = running.aiter_lines()
        await first_piece(lines)
        town.host.market.draining = True
        town.host.market.jobs.leave_all()
        assert '"code":"shutting_down"' in "".join([line async for line in lines])
    check_shape(await ask(town, "new"), 503, "server_error", "shutting_down")
    assert settled(town) == [("cancelled", "shutting_down")]


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_a_job_alone_pays_for_what_was_streamed_to_it(town: Town, *, stream: bool) -> None:
    node = await town.node(endless)
    if stream:
        async with asking(town) as only:
            await first_piece(only.aiter_lines())
    else:
        asked = asyncio.create_task(ask(town))
        await node.told(offers=1)
        asked.cancel()
    await town.enclave.heard(SettleJob)
    assert settled(town) == [("cancelled", "client_disconnected")]
    assert (town.enclave.all_of(SettleJob)[0].delivery.delivered_bytes > 0) == stream


async def test_without_the_enclave_nothing_is_begun_or_given_again_unknowingly(town: Town) -> None:
    await town.node()
    await town.enclave.stop()
    await wait_until(lambda: not town.host.link.ready)
    check_shape(await ask(town), 503, "server_error", "coordinator_unavailable")
    await town.enclave.start()
    await town.host.link.wait_ready()
    assert (await ask(town)).status_code == 200
    assert settled(town) == [("completed", "")]


async def test_a_former_job_that_cannot_be_closed_holds_its_key(town: Town) -> None:
    await town.node()
    store = KeyStore(town.host._database)
    request_id = "req_" + "0" * 26
    await store.begin(KeyUse(place_of(town.account_id, "k"), b"d" * 32, request_id, b"s" * 32))
    town.enclave.refused[SettleJob] = "market_full"
    check_shape(await ask(town), 503, "server_error", "coordinator_unavailable")
    assert not town.enclave.all_of(OpenJob)
    del town.enclave.refused[SettleJob]
    assert (await ask(town)).status_code == 200


async def test_an_answer_that_could_not_be_stored_is_served_once_and_never_charged_again(town: Town) -> None:
    renamed = asyncio.Event()

    async def script(offered: Offered) -> None:
        await offered.accept()
        await renamed.wait()
        await offered.delta("Hello")
        await offered.delta(finish_reason="stop")
        await offered.prove("Hello")

    node = await town.node(script)
    asked = asyncio.create_task(ask(town))
    await node.told(offers=1)
    with closing(sqlite3.connect(town.folder / "data" / FILE_NAME)) as other:
        other.execute("ALTER TABLE idempotency_keys RENAME TO out_of_reach")
        renamed.set()
        first = await asked
        other.execute("ALTER TABLE out_of_reach RENAME TO idempotency_keys")
    assert first.json()["choices"][0]["message"]["content"] == "Hello"
    lost = await ask(town)
    body = check_shape(lost, 500, "server_error", "idempotency_result_lost")
    assert first.headers["x-request-id"] in body["error"]["message"]
    assert lost.headers["x-should-retry"] == "false"
    assert len(town.enclave.all_of(OpenJob)) == 1


async def test_a_database_that_is_lost_inside_a_job_is_503_as_it_is_outside_of_one(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(_evidence: EvidenceStore, _request_id: str) -> None:
        raise OperationalError("SELECT", {}, ConnectionError("gone"), connection_invalidated=True)

    monkeypatch.setattr(EvidenceStore, "receipt_of_job", lost)
    await town.node()
    town.enclave.refused[SettleJob] = "already_settled"
    check_shape(await ask(town), 503, "server_error", "database_unavailable")


async def test_a_key_that_another_process_has_just_begun_is_409_and_to_be_retried(town: Town) -> None:
    class TooLate(KeyStore):
        async def begin(self, use: KeyUse, *, instead_of: str = "") -> bool:
            await super().begin(KeyUse(use.place, use.body_sha256, "req_" + "1" * 26, use.salt))
            return await super().begin(use, instead_of=instead_of)

    await town.node()
    town.host.idempotency._keys = TooLate(town.host._database)
    answer = await ask(town)
    check_shape(answer, 409, "invalid_request_error", "idempotency_in_progress")
    assert answer.headers["retry-after"] == "1"
    assert not town.enclave.all_of(OpenJob)
