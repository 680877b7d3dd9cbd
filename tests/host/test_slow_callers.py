"""Callers who read slowly: the node is not blamed for it, and what they were given is paid for."""

import asyncio
import json
import socket
from typing import Any

import pytest
from tests.host.fake_node import Offered
from tests.host.keyed import wait_until
from tests.host.town import Town, request

from pinaivu_host.gateway import attempt
from pinaivu_host.gateway.http_answer import WRITE_BYTES, send_body
from pinaivu_host.http_protocol import WRITE_BUFFER_BYTES
from pinaivu_host.job_channel import BYTES_MAX, JobChannel, JobMessage
from pinaivu_host.store.idempotency import place_of
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.wire.link import SettleJob

pytestmark = pytest.mark.anyio
PIECE = "x" * 300_000
"""More than fits between gateway and caller when nobody reads."""


class SlowCaller:
    """Asks for a stream, and reads nothing of it until told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def ask(cls, town: Town, *, once: str = "", stream: bool = True) -> "SlowCaller":
        """With an idempotency key if `once` is one."""
        unread = socket.socket()
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        unread.settimeout(0)
        await asyncio.get_running_loop().sock_connect(unread, ("127.0.0.1", town.port))
        reader, writer = await asyncio.open_connection(sock=unread)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport as well
        body = json.dumps(request(stream=stream, max_tokens=1_000_000)).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {town.key}\r\n"
        if once:
            head += f"idempotency-key: {once}\r\n"
        writer.write(f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        return cls(reader, writer)

    async def read_and_leave(self, size: int) -> None:
        """So many bytes, and no more."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]  # a read transport as well
        await self._reader.readexactly(size)
        self._writer.transport.abort()

    async def read(self) -> bytes:
        """All there is, to the end."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]  # a read transport as well
        try:
            return await self._reader.read()
        finally:
            self._writer.transport.abort()


def only_receipt(town: Town) -> Receipt:
    (receipt,) = town.enclave.logged(Receipt)
    assert isinstance(receipt, Receipt)
    return receipt


async def test_an_answer_that_ends_while_its_caller_does_not_read_is_whole_and_paid(town: Town) -> None:
    ended = asyncio.Event()

    async def honest(offered: Offered) -> None:
        await offered.accept()
        for _ in range(2):
            await offered.delta(PIECE)
            await offered.node.ask()  # by now the gateway has it, and with the second waits for the caller
        await offered.delta("the end")
        await offered.delta(finish_reason="stop")
        await offered.prove(PIECE * 2 + "the end", tokens=(11, 1000))
        await offered.node.ask()  # by now the gateway has the proof
        ended.set()

    node = await town.node(honest)
    caller = await SlowCaller.ask(town)
    await ended.wait()
    text = await caller.read()
    assert b"the end" in text
    assert b"[DONE]" in text
    receipt = only_receipt(town)
    assert (receipt.outcome, receipt.node_id, receipt.completion_tokens) == ("completed", node.node_id, 1000)


async def stream_until_told_to_stop(offered: Offered) -> None:
    await offered.accept()
    told = ""
    while not offered.cancelled.is_set():
        await offered.delta(PIECE)
        told += PIECE
    await offered.prove(told, outcome="cancelled", finish_reason=None, tokens=(11, 1000))


async def test_what_overflows_because_its_caller_does_not_read_is_his_doing(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "SLOW_CALLER_S", 0)
    node = await town.node(stream_until_told_to_stop)
    caller = await SlowCaller.ask(town)
    await node.told(cancels=1)
    await caller.read()
    await town.host.market.jobs.ended(60)
    receipt = only_receipt(town)
    assert (receipt.outcome, receipt.reason) == ("cancelled", "client_stalled")
    assert receipt.charge_amount != "0.000000 USDC"


async def test_what_is_held_for_a_caller_who_does_not_read_is_bounded_whatever_the_node_goes_on_to_send(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "SLOW_CALLER_S", 0)
    held_bytes: list[int] = []
    put = JobChannel.put

    def watched(channel: JobChannel, message: JobMessage, size_bytes: int) -> None:
        put(channel, message, size_bytes)
        held_bytes.append(sum(len(getattr(held, "content", "")) for held in channel._messages))

    monkeypatch.setattr(JobChannel, "put", watched)
    pieces = 8 * BYTES_MAX // len(PIECE)
    ended = asyncio.Event()

    async def deaf(offered: Offered) -> None:
        await offered.accept()
        for _ in range(pieces):
            await offered.delta(PIECE)
        await offered.prove(PIECE * pieces, outcome="cancelled", finish_reason=None, tokens=(11, 1000))
        await offered.node.ask()  # by now the gateway has heard all of it
        ended.set()

    await town.node(deaf)
    caller = await SlowCaller.ask(town)
    await ended.wait()
    await caller.read()
    assert len(held_bytes) > pieces
    assert BYTES_MAX // 2 < max(held_bytes) <= BYTES_MAX


SHORT, SHORT_PIECES = "x" * 1000, 2000


@pytest.mark.parametrize("once", ["", "k"], ids=["plain", "keyed"])
async def test_what_had_not_left_when_its_caller_left_was_not_delivered(town: Town, once: str) -> None:
    generated = asyncio.Event()

    async def quick(offered: Offered) -> None:
        await offered.accept()
        for _ in range(SHORT_PIECES):
            await offered.delta(SHORT)
        await offered.node.ask()  # by now the gateway has all of it
        generated.set()
        await offered.cancelled.wait()
        await offered.prove(SHORT * SHORT_PIECES, outcome="cancelled", finish_reason=None, tokens=(11, 1000))

    await town.node(quick)
    caller = await SlowCaller.ask(town, once=once)
    await generated.wait()
    await caller.read_and_leave(300_000)
    await town.host.market.jobs.ended(60)
    (settled,) = town.enclave.all_of(SettleJob)
    assert 200_000 < settled.delivery.delivered_bytes < len(SHORT) * SHORT_PIECES // 2


async def answer_at_length(offered: Offered) -> None:
    await offered.accept()
    for _ in range(SHORT_PIECES):
        await offered.delta(SHORT)
    await offered.delta(finish_reason="stop")
    await offered.prove(SHORT * SHORT_PIECES, tokens=(11, 1000))


def buffered_bytes(town: Town) -> list[int]:
    """What each connection holds for its caller."""
    return [size for one in town.server.server_state.connections if (size := one.transport.get_write_buffer_size())]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_an_answer_given_again_is_held_once_for_all_who_do_not_read_it(town: Town, *, stream: bool) -> None:
    await town.node(answer_at_length)
    await (await SlowCaller.ask(town, once="k", stream=stream)).read()
    callers = [await SlowCaller.ask(town, once="k", stream=stream) for _ in range(3)]
    await wait_until(lambda: len(buffered_bytes(town)) == len(callers))
    assert max(buffered_bytes(town)) <= WRITE_BUFFER_BYTES + 2 * WRITE_BYTES
    assert len(town.host.idempotency._past[place_of(town.account_id, "k")]._listeners) == len(callers)
    for caller in callers:
        assert (await caller.read()).count(b"x") > len(SHORT) * SHORT_PIECES, "all of it, and names of headers"


@pytest.mark.parametrize("size", [0, 1, WRITE_BYTES, WRITE_BYTES + 1, 5 * WRITE_BYTES])
@pytest.mark.parametrize("more", [False, True])
async def test_a_body_is_sent_in_pieces_that_the_server_may_wait_between(size: int, *, more: bool) -> None:
    body, sent = bytes(range(256)) * (size // 256 + 1), []

    async def send(message: Any) -> None:
        sent.append(message)

    await send_body(send, body[:size], more=more)
    assert b"".join(one["body"] for one in sent) == body[:size]
    assert len(sent) == max(1, -(-size // WRITE_BYTES))
    assert [one["more_body"] for one in sent] == [True] * (len(sent) - 1) + [more]
