"""Callers who leave: the node is told at once, every job is settled for what was delivered, slots are free again."""

import asyncio
import json
import socket

import pytest
from tests.host.fake_node import Offered, echoing, endless
from tests.host.town import Town, request

from pinaivu_host.gateway import attempt, delivery
from pinaivu_shared.wire.link import OpenJob, ReportFailure, SettleJob

pytestmark = pytest.mark.anyio


async def ask(town: Town, **fields: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request over a bare connection that can be cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", town.port)
    body = json.dumps(request(**fields)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {town.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    return reader, writer


def cut(writer: asyncio.StreamWriter) -> None:
    """Leave without a word."""
    writer.transport.abort()


def settled(town: Town) -> list[SettleJob]:
    found: list[SettleJob] = town.enclave.all_of(SettleJob)
    return found


async def test_200_callers_leaving_in_mid_stream_are_all_cancelled_and_settled(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "PROOF_LIMIT_S", 60.0)  # all nodes are in this process, which may be slow
    node = await town.node(endless)
    connections = [await ask(town, stream=True) for _ in range(200)]
    for reader, _ in connections:
        await reader.readuntil(b'"content":"x"')
    for _, writer in connections:
        cut(writer)
    await node.told(cancels=200)
    await town.enclave.heard(SettleJob, count=200)
    assert {one.outcome for one in settled(town)} == {"cancelled"}
    assert all(one.proof is not None and one.delivery.delivered_bytes > 0 for one in settled(town))
    await town.host.market.jobs.ended(60)
    assert (town.enclave.open_jobs, town.enclave.busy_slots) == (0, 0)
    assert not town.host.market.jobs
    assert not town.host.journal.records
    assert not any(connection.jobs for connection in town.host.nodes._by_session.values())


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_who_leaves_before_the_first_token_pays_nothing(town: Town, *, stream: bool) -> None:
    async def mute(offered: Offered) -> None:
        await offered.accept()
        await offered.cancelled.wait()
        await offered.prove("", outcome="cancelled", tokens=(5, 0))

    node = await town.node(mute)
    _, writer = await ask(town, stream=stream)
    await node.told(offers=1)
    cut(writer)
    await node.told(cancels=1)
    await town.enclave.heard(SettleJob)
    assert settled(town)[0].outcome == "cancelled"
    assert settled(town)[0].reason == "client_disconnected"
    assert settled(town)[0].delivery.delivered_bytes == 0
    assert not town.enclave.all_of(ReportFailure)


async def test_a_caller_who_leaves_an_unstreamed_answer_was_delivered_nothing(town: Town) -> None:
    node = await town.node(endless)
    _, writer = await ask(town)
    await node.told(offers=1)
    cut(writer)
    await town.enclave.heard(SettleJob)
    assert settled(town)[0].outcome == "cancelled"
    assert settled(town)[0].delivery.delivered_bytes == 0
    assert settled(town)[0].delivery.response_commitment == ""


async def test_a_node_that_never_proves_does_not_hold_up_the_settlement(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinaivu_host.gateway.attempt.PROOF_LIMIT_S", 0.05)

    async def stubborn(offered: Offered) -> None:
        await offered.accept()
        await offered.delta("x")

    await town.node(stubborn)
    reader, writer = await ask(town, stream=True)
    await reader.readuntil(b'"content":"x"')
    cut(writer)
    await town.enclave.heard(SettleJob)
    assert settled(town)[0].proof is None
    assert settled(town)[0].delivery.delivered_bytes == 1


async def test_a_caller_who_waits_for_a_slot_may_leave_as_well(town: Town) -> None:
    node = await town.node(endless, slots=1)
    first, first_writer = await ask(town, stream=True)
    await first.readuntil(b'"content":"x"')
    _, second_writer = await ask(town, stream=True)
    await town.enclave.heard(OpenJob, count=2)
    cut(second_writer)
    cut(first_writer)
    await town.host.market.jobs.ended(60)
    assert len(node.offers) == 1
    assert len(settled(town)) == 1


async def test_a_caller_who_does_not_read_is_given_up(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SEND_LIMIT_S", 0.2)

    async def much(offered: Offered) -> None:
        await offered.accept()
        while not offered.cancelled.is_set():
            await offered.delta("x" * 20_000)
            await asyncio.sleep(0.001)
        await offered.prove("x", outcome="cancelled")

    node = await town.node(much)
    unread = socket.socket()
    unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    unread.settimeout(0)
    await asyncio.get_running_loop().sock_connect(unread, ("127.0.0.1", town.port))
    _, writer = await asyncio.open_connection(sock=unread)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport as well
    body = json.dumps(request(stream=True)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {town.key}\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    await node.told(cancels=1)
    await town.enclave.heard(SettleJob)
    assert settled(town)[0].outcome in {"cancelled", "failed"}
    assert settled(town)[0].reason in {"client_stalled", "overflow"}
    cut(writer)


async def test_what_is_cancelled_has_a_receipt_that_its_owner_can_fetch(town: Town) -> None:
    await town.node(endless)
    reader, writer = await ask(town, stream=True)
    await reader.readuntil(b'"content":"x"')
    cut(writer)
    await town.enclave.heard(SettleJob)
    await town.host.market.jobs.ended(60)
    request_id = settled(town)[0].request_id
    found = await town.client().get(f"/v1/receipts/{request_id}")
    assert found.json()["outcome"] == "cancelled"


async def test_the_next_caller_is_served_when_the_last_one_left(town: Town) -> None:
    node = await town.node(endless, slots=1)
    reader, writer = await ask(town, stream=True)
    await reader.readuntil(b'"content":"x"')
    waiting = asyncio.create_task(town.chat())
    await town.enclave.heard(OpenJob, count=2)
    node.script = echoing("my turn")
    cut(writer)
    assert (await waiting).json()["choices"][0]["message"]["content"] == "my turn"
