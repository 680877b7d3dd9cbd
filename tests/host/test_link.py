"""The enclave link: boot, reconnection, calls in flight, back-pressure."""

import asyncio

import pytest
from tests.host.fake_enclave import Reply
from tests.host.fake_node import Offered
from tests.host.town import CONFIGURATION, Town

from pinaivu_host.errors import CommandRefusedError, CoordinatorUnavailableError
from pinaivu_shared.canonical import encode
from pinaivu_shared.wire.link import (
    AcknowledgeLeaves,
    Attest,
    Attestation,
    Done,
    EndSession,
    HostCommand,
    LeafAppended,
    SettleJob,
)
from pinaivu_shared.wire.link_boot import Configure, FinishResume, Introduce, Resume

pytestmark = pytest.mark.anyio


async def test_a_new_enclave_is_configured_and_given_all_leaves(town: Town) -> None:
    node = await town.node()
    for _ in range(5):
        await town.chat()
    before = list(town.enclave.leaves)
    _, checkpoint = await town.host.journal.checkpoint_over(len(before) - 1)
    enclave = await town.replace_enclave()
    await enclave.heard(FinishResume)
    assert enclave.all_of(Configure)[0].configuration == encode(CONFIGURATION)
    assert [one for batch in enclave.all_of(Resume) for one in batch.leaves] == before
    assert enclave.all_of(FinishResume)[0].checkpoint == checkpoint
    assert checkpoint.startswith(CONFIGURATION.origin + "\n")
    await node.gone()
    assert node.close_code == 1012
    await town.host.link.wait_ready()
    await town.node()
    assert (await town.chat()).status_code == 200
    assert enclave.leaves[: len(before)] == before


async def test_leaves_are_resumed_in_bounded_batches(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinaivu_host.link_boot.RESUME_BATCH_BYTES", 3000)
    await town.node()
    for _ in range(5):
        await town.chat()
    before = list(town.enclave.leaves)
    enclave = await town.replace_enclave()
    await enclave.heard(FinishResume)
    batches = enclave.all_of(Resume)
    assert len(batches) >= 3
    assert [one for batch in batches for one in batch.leaves] == before


async def test_the_same_enclave_only_sends_what_was_not_acknowledged(town: Town) -> None:
    node = await town.node()
    await town.chat()
    town.enclave.silent_on = (AcknowledgeLeaves,)
    await town.chat()
    await town.enclave.heard(AcknowledgeLeaves)
    town.enclave.silent_on = ()
    town.enclave.drop()
    await town.enclave.heard(Introduce, count=2)
    await town.host.link.wait_ready()
    assert len(town.enclave.all_of(Configure)) == 1
    while town.enclave.durable < len(town.enclave.leaves):
        await town.enclave.heard(AcknowledgeLeaves, count=len(town.enclave.all_of(AcknowledgeLeaves)) + 1)
    assert (await town.chat()).status_code == 200
    assert node.close_code is None
    assert {one.instance for one in town.enclave.all_of(Introduce)} == {town.host.link.instance}


async def test_leaves_soon_after_each_other_are_acknowledged_together(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinaivu_host.link.ACKNOWLEDGE_PAUSE_S", 3600)
    already = len(town.enclave.all_of(AcknowledgeLeaves))
    await town.node()
    for _ in range(5):
        await town.chat()
    assert len(town.enclave.all_of(AcknowledgeLeaves)) <= already + 1


async def test_calls_in_flight_fail_at_once_when_the_link_breaks(town: Town) -> None:
    town.enclave.silent_on = (Attest,)
    calls = [asyncio.ensure_future(town.host.link.call(Attest(b""), Attestation)) for _ in range(50)]
    await town.enclave.heard(Attest, count=50)
    town.enclave.drop()
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, CoordinatorUnavailableError)
    with pytest.raises(CoordinatorUnavailableError):
        await town.host.link.call(Attest(b""), Attestation)


async def test_what_the_enclave_refuses_has_its_code(town: Town) -> None:
    town.enclave.refused[Attest] = "no_entropy"
    with pytest.raises(CommandRefusedError) as caught:
        await town.host.link.call(Attest(b""), Attestation)
    assert caught.value.refusal == "no_entropy"


async def test_an_answer_of_the_wrong_kind_drops_the_link(town: Town) -> None:
    with pytest.raises(CoordinatorUnavailableError):
        await town.host.link.call(Attest(b""), Done)
    await town.enclave.heard(Introduce, count=2)


async def test_callers_wait_when_too_many_calls_are_in_flight(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    town.host.link._slots = asyncio.Semaphore(3)
    town.enclave.silent_on = (Attest,)
    calls = [asyncio.ensure_future(town.host.link.call(Attest(b""), Attestation)) for _ in range(10)]
    await town.enclave.heard(Attest, count=3)
    assert (await town.client().get("/healthz")).status_code == 200  # a round trip later there are still three
    assert len(town.enclave.all_of(Attest)) == 3
    town.enclave.silent_on = ()
    town.enclave.drop()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, CoordinatorUnavailableError) for outcome in outcomes)


async def test_an_enclave_that_owes_an_answer_too_long_is_given_up(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinaivu_host.link_connection.CALL_LIMIT_S", 0.1)
    town.enclave.silent_on = (Attest,)
    with pytest.raises(CoordinatorUnavailableError):
        await town.host.link.call(Attest(b""), Attestation)
    await town.enclave.heard(Introduce, count=2)


async def test_a_boot_that_is_refused_is_tried_again(closed_town: Town) -> None:
    town = closed_town
    town.enclave.refused[Configure] = "verification_failed"
    await town.enclave.start()
    await town.open_host()
    await town.enclave.heard(Configure, count=2)
    assert not town.host.link.ready
    town.enclave.refused = {}
    await town.host.link.wait_ready()
    await town.close()


async def test_an_enclave_with_another_history_ends_the_link(town: Town) -> None:
    await town.node()
    await town.chat()
    last = len(town.enclave.leaves) - 1

    def push_another_history(command: HostCommand, reply: Reply) -> Reply:
        return [LeafAppended(last, b"another history"), *reply] if isinstance(command, Introduce) else reply

    town.enclave.alter = push_another_history
    town.enclave.drop()
    while not town.host.journal.failed:
        assert (await town.client().get("/healthz")).status_code == 200
    await town.ended_link()


async def test_a_restarted_host_goes_on_with_the_same_enclave(town: Town) -> None:
    node = await town.node()
    request_id = (await town.chat()).json()["request_id"]
    receipt = (await town.client().get(f"/v1/receipts/{request_id}")).content
    await town.close_host()
    await node.gone()
    await town.open_host()
    await town.host.link.wait_ready()
    assert len(town.enclave.all_of(Configure)) == 1
    assert len({one.instance for one in town.enclave.all_of(Introduce)}) == 2
    assert (await town.client().get(f"/v1/receipts/{request_id}")).content == receipt
    await town.node()
    assert (await town.chat()).status_code == 200


async def test_a_job_is_settled_after_the_link_came_back(town: Town) -> None:
    proceed = asyncio.Event()

    async def wait(offered: Offered) -> None:
        await offered.accept()
        await offered.delta("x")
        await proceed.wait()
        await offered.delta(finish_reason="stop")
        await offered.prove("x")

    await town.node(wait)
    town.enclave.silent_on = (SettleJob,)
    answer = asyncio.ensure_future(town.chat())
    await town.nodes[0].told(offers=1)
    proceed.set()
    await town.enclave.heard(SettleJob)
    town.enclave.silent_on = ()
    town.enclave.drop()
    assert (await answer).json()["choices"][0]["message"]["content"] == "x"
    assert len(town.enclave.all_of(SettleJob)) == 2


async def test_a_settlement_whose_answer_was_lost_is_found_in_the_log(town: Town) -> None:
    await town.node()

    def lose_the_answer(command: HostCommand, reply: Reply) -> Reply:
        if not isinstance(command, SettleJob):
            return reply
        town.enclave.alter = lambda _command, reply: reply  # once
        town.enclave.drop()
        return []

    town.enclave.alter = lose_the_answer
    response = await town.chat()
    assert response.status_code == 200
    receipt = await town.client().get(f"/v1/receipts/{response.json()['request_id']}")
    assert receipt.json()["outcome"] == "completed"


async def test_the_enclave_hears_of_a_node_that_went(town: Town) -> None:
    node = await town.node()
    await node.stop()
    await town.enclave.heard(EndSession)
    assert town.enclave.all_of(EndSession)[0].session == node.session
