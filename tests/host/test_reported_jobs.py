"""What the enclave hears of a job besides its end: the first token, and proofs that come too late or twice."""

import asyncio

import pytest
from msgspec import structs
from sqlalchemy import select
from tests.host.fake_node import Gate, Offered, Script, echoing
from tests.host.town import Town, request

from pinaivu_host.errors import CommandRefusedError
from pinaivu_host.job_channel import JobChannel
from pinaivu_host.late_proofs import report_proof
from pinaivu_host.store.schema import NODE_PROOFS
from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.ids import digest_of, node_id_of
from pinaivu_shared.leaves import SuspensionLeaf
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.signed import Signed, load_node_key, sign_as_node, verify_node
from pinaivu_shared.sse import data_events
from pinaivu_shared.terms import Proof
from pinaivu_shared.wire import node as wire
from pinaivu_shared.wire.link import (
    AcceptAward,
    Call,
    EndSession,
    HostCommand,
    JobSettled,
    OpenJob,
    ReportFailure,
    ReportFirstToken,
    ReportProof,
    SettleJob,
)
from pinaivu_shared.wire.link_boot import Introduce

pytestmark = pytest.mark.anyio
OF_JOBS = (OpenJob, AcceptAward, ReportFirstToken, ReportFailure, SettleJob, ReportProof)


def story(town: Town) -> list[type[HostCommand]]:
    """What the enclave was told of jobs, in order."""
    return [type(command) for command in town.enclave.commands if isinstance(command, OF_JOBS)]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_first_token_is_reported_once_after_its_acceptance_and_before_the_settlement(
    town: Town, *, stream: bool
) -> None:
    await town.node(echoing("several", " pieces", " of text"))
    assert (await town.chat(stream=stream)).status_code == 200
    assert story(town) == [OpenJob, AcceptAward, ReportFirstToken, SettleJob]
    assert town.enclave.all_of(ReportFirstToken)[0].attempt == 1
    (receipt,) = town.enclave.logged(Receipt)
    assert 1 <= receipt.timing.first_token_ms <= max(1, receipt.timing.duration_ms)


async def test_the_first_token_is_that_of_the_node_that_answers(town: Town) -> None:
    async def give_up(offered: Offered) -> None:
        await offered.accept()
        await offered.decline("engine_unavailable")

    await town.node(give_up)
    await town.node(echoing("good"))
    assert (await town.chat()).status_code == 200
    assert story(town) == [OpenJob, AcceptAward, ReportFailure, AcceptAward, ReportFirstToken, SettleJob]
    assert town.enclave.all_of(ReportFirstToken)[0].attempt == 2


async def test_after_the_first_token_the_enclave_gives_the_job_to_no_other_node(town: Town) -> None:
    gate = Gate()
    await town.node(gate.script)
    other = await town.node(echoing("never asked"))
    answer = asyncio.ensure_future(town.chat())
    await town.enclave.heard(ReportFirstToken)
    job = town.enclave.all_of(OpenJob)[0]
    with pytest.raises(CommandRefusedError) as caught:
        await town.host.link.ask(ReportFailure(job.request_id, 1, "timeout"))
    assert caught.value.refusal == "illegal_command"
    gate.proceed.set()
    assert (await answer).json()["choices"][0]["message"]["content"] == "begun"
    assert other.offers == []


async def test_a_first_token_that_the_enclave_refuses_to_note_ends_nothing(town: Town) -> None:
    await town.node()
    town.enclave.refused[ReportFirstToken] = "illegal_command"
    assert (await town.chat()).status_code == 200
    assert story(town) == [OpenJob, AcceptAward, ReportFirstToken, SettleJob]


async def test_no_first_token_is_reported_under_an_acceptance_that_was_refused(town: Town) -> None:
    await town.node()
    town.enclave.refused[AcceptAward] = "verification_failed"
    assert (await town.chat()).status_code == 502
    assert ReportFirstToken not in story(town)
    assert town.enclave.logged(Receipt)[0].reason in {"acceptance_refused", "not_accepted"}


async def test_a_stream_does_not_wait_for_its_first_token_to_be_noted(town: Town) -> None:
    gate = Gate()
    await town.node(gate.script)
    town.enclave.silent_on = (ReportFirstToken,)
    async with town.client().stream("POST", "/v1/chat/completions", json=request(stream=True)) as response:
        text = ""
        async for piece in response.aiter_text():
            text += piece
            if "begun" in text and not gate.proceed.is_set():
                await town.enclave.heard(ReportFirstToken)
                town.enclave.silent_on = ()
                town.enclave.drop()  # what was not noted never will be, and the job goes on
                gate.proceed.set()
    assert text.endswith("data: [DONE]\n\n")
    assert town.enclave.logged(Receipt)[0].outcome == "completed"


async def report(town: Town, request_id: str, proof: Signed) -> None:
    await report_proof(town.host.link, town.host.market.evidence, request_id, proof)


def proving_twice(again: asyncio.Event, *, tokens: tuple[int, int]) -> Script:
    """The script of a node that proves an answer and, after `again`, proves it with these tokens."""

    async def script(offered: Offered) -> None:
        await offered.answer("hello")
        await again.wait()
        await offered.prove("hello", tokens=tokens)

    return script


async def kept_proofs(town: Town) -> dict[str, Signed]:
    """What the store has of nodes' proofs, by digest."""
    rows = await town.host._database.read(lambda connection: connection.execute(select(NODE_PROOFS)).all())
    return {row.digest: Signed(row.payload, row.signature) for row in rows}


def proving_node(proof: Signed) -> str:
    """Whose proof it is, once the signature holds by the key that it names."""
    key = bytes.fromhex(decode(proof.payload, Proof, check="proof").public_key)
    verify_node("proof", proof, load_node_key(key))
    return node_id_of(key)


async def check_conviction(town: Town, first: str, second: str) -> None:
    """The enclave has both proofs, paid the first and gives that node nothing more."""
    await town.enclave.heard(ReportProof)
    assert story(town)[-1] is ReportProof
    (suspension,) = town.enclave.logged(SuspensionLeaf)
    (receipt,) = town.enclave.logged(Receipt)
    assert (suspension.reason, suspension.evidence) == ("conflicting_proofs", (first, second))
    assert suspension.node_id == receipt.node_id
    assert suspension.request_id == receipt.request_id
    assert (receipt.outcome, receipt.node_proof, receipt.completion_tokens) == ("completed", first, 1)
    while len(kept := await kept_proofs(town)) < 2:
        pass
    assert kept.keys() == set(suspension.evidence)
    assert {proving_node(kept[digest]) for digest in suspension.evidence} == {suspension.node_id}
    assert (await town.chat()).json()["error"]["code"] == "no_node_available"


async def test_a_second_proof_after_the_settlement_suspends_the_node(town: Town) -> None:
    again = asyncio.Event()
    node = await town.node(proving_twice(again, tokens=(11, 9)))
    assert (await town.chat()).status_code == 200
    again.set()
    await town.enclave.heard(ReportProof)
    await check_conviction(town, *(digest_of(one.payload) for one in node.proofs))


async def test_a_second_proof_before_the_settlement_is_reported_after_it(town: Town) -> None:
    again = asyncio.Event()
    node = await town.node(proving_twice(again, tokens=(11, 9)))
    town.enclave.silent_on = (SettleJob,)
    answer = asyncio.ensure_future(town.chat())
    await town.enclave.heard(SettleJob)
    again.set()
    while len(node.proofs) < 2:
        await node.ask()
    await node.ask()  # the gateway has read both
    assert not town.enclave.all_of(ReportProof)
    town.enclave.silent_on = ()
    town.enclave.drop()
    assert (await answer).status_code == 200
    await check_conviction(town, *(digest_of(one.payload) for one in node.proofs))


async def test_a_second_proof_is_kept_though_its_node_leaves_before_the_enclave_has_answered(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = asyncio.Event()
    node = await town.node(proving_twice(again, tokens=(11, 9)))
    assert (await town.chat()).status_code == 200
    serve, waiting = town.enclave._serve, list[tuple[asyncio.StreamWriter, Call]]()

    def serve_later(writer: asyncio.StreamWriter, call: Call) -> None:
        if isinstance(call.command, ReportProof):
            waiting.append((writer, call))
        else:
            serve(writer, call)

    monkeypatch.setattr(town.enclave, "_serve", serve_later)
    again.set()
    while not waiting:
        await node.ask()
    await node.stop()
    await town.enclave.heard(EndSession)
    serve(*waiting[0])
    await check_conviction(town, *(digest_of(one.payload) for one in node.proofs))


async def test_a_proof_that_the_enclave_refuses_is_not_kept(town: Town) -> None:
    """So there are never more than two of one job, whatever a node sends."""
    again = asyncio.Event()
    node = await town.node(proving_twice(again, tokens=(11, 9)))
    assert (await town.chat()).status_code == 200
    await node.send(wire.Prove(node.offers[0].request_id, Signed(b"made up", b"")))
    again.set()
    await town.enclave.heard(ReportProof, count=2)
    await check_conviction(town, *(digest_of(one.payload) for one in node.proofs))
    kept = await kept_proofs(town)
    third = encode(structs.replace(decode(node.proofs[0].payload, Proof, check="proof"), completion_tokens=7))
    await report(town, node.offers[0].request_id, sign_as_node("proof", third, node.key))
    assert len(kept) == 2
    assert await kept_proofs(town) == kept


async def test_a_late_proof_has_the_signature_that_the_enclave_verified(town: Town) -> None:
    node = await town.node()
    assert (await town.chat()).status_code == 200
    ((digest, proof),) = (await kept_proofs(town)).items()
    for signature in (b"another", proof.signature):
        await town.host.market.evidence.keep_proof(Signed(proof.payload, signature))
        assert await kept_proofs(town) == {digest: Signed(proof.payload, signature)}
    await report(town, node.offers[0].request_id, Signed(proof.payload, b"forged"))
    assert await kept_proofs(town) == {digest: proof}


async def test_a_late_proof_that_cannot_be_stored_ends_nothing(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    node = await town.node()
    assert (await town.chat()).status_code == 200
    await town.host._database.write(NODE_PROOFS.drop)
    await report(town, node.offers[0].request_id, node.proofs[0])
    assert "late proof not kept" in caplog.messages
    assert node.proofs[0].payload.decode() not in caplog.text


async def test_the_same_proof_again_and_one_of_no_job_change_nothing(town: Town) -> None:
    again = asyncio.Event()
    node = await town.node(proving_twice(again, tokens=(11, 1)))
    assert (await town.chat()).status_code == 200
    again.set()
    await node.send(wire.Prove("req_" + "0" * 26, node.proofs[0]))
    await town.enclave.heard(ReportProof, count=2)
    assert (await town.chat()).status_code == 200
    assert town.enclave.logged(SuspensionLeaf) == []


@pytest.mark.parametrize(
    ("said", "kept"),
    [([], None), ([b"a"], None), ([b"a", b"a"], None), ([b"a", b"b"], b"b"), ([b"a", b"a", b"b", b"c"], b"b")],
)
async def test_of_all_proofs_the_first_that_differs_is_kept_as_evidence(said: list[bytes], kept: bytes | None) -> None:
    channel = JobChannel(lambda: None)
    for payload in said:
        channel.put(wire.Prove("req_" + "0" * 26, Signed(payload, b"")), len(payload))
    assert [one.proof.payload for one in channel.take() if isinstance(one, wire.Prove)] == said[:1]
    assert (channel.second_proof and channel.second_proof.payload) == kept


async def test_a_job_whose_settlement_stays_unknown_is_held_by_nobody_here(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinaivu_host.gateway.settlement.RECONNECT_LIMIT_S", 0.05)
    node = await town.node()
    town.enclave.silent_on = (SettleJob,)
    answer = asyncio.ensure_future(town.chat())
    await town.enclave.heard(SettleJob)
    town.enclave.silent_on = (SettleJob, Introduce)
    town.enclave.drop()
    assert (await answer).json()["error"]["code"] == "coordinator_unavailable"
    connection = town.host.nodes._by_session[node.session]
    assert (connection.jobs, town.host.nodes._running) == ({}, {})


async def test_a_node_that_floods_with_late_proofs_is_sent_away(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinaivu_host.node_connections.LATE_PROOFS_MAX", 3)
    town.enclave.silent_on = (ReportProof,)
    node = await town.node()
    assert (await town.chat()).status_code == 200
    for _ in range(5):
        await node.send(wire.Prove(node.offers[0].request_id, node.proofs[0]))
    await node.gone()
    assert (node.close_code, node.goodbyes[0].code) == (1008, "too_many_late_proofs")
    assert len(town.enclave.all_of(ReportProof)) == 1


async def test_a_job_that_the_enclave_settled_by_itself_keeps_that_receipt(town: Town) -> None:
    gate = Gate()
    await town.node(gate.script)
    answer = asyncio.ensure_future(town.chat(stream=True))
    await town.enclave.heard(ReportFirstToken)
    town.enclave.tick(later_ms=24 * 3600 * 1000)
    gate.proceed.set()
    error = list(data_events((await answer).text))[-1]["error"]
    assert (error["code"], error["message"]) == ("node_failed", "the answer came after its time was over")
    (receipt,) = town.enclave.logged(Receipt)
    assert (receipt.outcome, receipt.reason) == ("failed", "deadline")
    with pytest.raises(CommandRefusedError) as caught:
        await town.host.link.call(town.enclave.all_of(SettleJob)[0], JobSettled)
    assert caught.value.refusal == "already_settled"
    found = await town.client().get(f"/v1/receipts/{receipt.request_id}")
    assert found.content in town.enclave.leaves
