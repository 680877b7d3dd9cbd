"""Many callers of one gateway at a time: streams by the thousand, one who does not read, and a flood of wrong keys."""

import asyncio
import itertools
import json
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.host.fake_node import Offered
from tests.host.test_slow_callers import PIECE, SlowCaller
from tests.host.town import Town, request

from pinaivu_host.store.key_cache import CACHED_KEYS_MAX
from pinaivu_shared.receipt import Receipt

pytestmark = pytest.mark.anyio
STREAMS = 1000
FLOODING = 20
BEGUN = b'"content":"begun"'


@pytest.fixture
def many_files() -> None:
    """Both ends of every connection are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * STREAMS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def head_and_body(town: Town, *, key: str | None = None, connection: str = "close", **fields: object) -> bytes:
    body = json.dumps(request(**fields)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key or town.key}\r\n"
    return f"{head}connection: {connection}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def connected(town: Town) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection without an HTTP library: a thousand of those cost more than what is tested."""
    reader, writer = await asyncio.open_connection("127.0.0.1", town.port)
    try:
        yield reader, writer
    finally:
        writer.close()


class Pausing:
    """A node that begins every answer and goes on with all of them at `proceed`."""

    def __init__(self) -> None:
        self.proceed = asyncio.Event()

    async def script(self, offered: Offered) -> None:
        await offered.accept()
        await offered.delta("begun")
        await self.proceed.wait()
        await offered.delta(" ended")
        await offered.delta(finish_reason="stop")
        await offered.prove("begun ended")


async def stream(town: Town, begun: asyncio.Barrier) -> bytes:
    """The whole answer of one streamed request; at the barrier once its first piece is there."""
    async with connected(town) as (reader, writer):
        writer.write(head_and_body(town, stream=True))
        received = b""
        while BEGUN not in received:
            piece = await reader.read(4096)
            assert piece, received
            received += piece
        await begun.wait()
        return received + await reader.read()


@pytest.mark.usefixtures("many_files")
async def test_a_thousand_streams_are_open_at_once_and_all_of_them_end_whole(openable: Town) -> None:
    openable.settings["queue_max"] = STREAMS
    town = await openable.open()
    pausing = Pausing()
    await town.node(pausing.script, slots=STREAMS)
    begun = asyncio.Barrier(STREAMS + 1)
    streams = [asyncio.create_task(stream(town, begun)) for _ in range(STREAMS)]
    await begun.wait()  # every one of them has its first piece, and none the second
    assert not town.enclave.logged(Receipt)
    pausing.proceed.set()
    answers = await asyncio.gather(*streams)
    assert all(answer.startswith(b"HTTP/1.1 200") and b" ended" in answer for answer in answers)
    assert all(b"data: [DONE]\n\n" in answer for answer in answers)
    receipts = town.enclave.logged(Receipt)
    assert len({receipt.request_id for receipt in receipts}) == STREAMS
    assert {receipt.outcome for receipt in receipts} == {"completed"}


async def test_who_does_not_read_holds_nobody_up(town: Town) -> None:
    pausing, filled = Pausing(), asyncio.Event()

    async def script(offered: Offered) -> None:
        if len(offered.node.offers) > 1:
            await pausing.script(offered)
            return
        await offered.accept()
        for _ in range(2):
            await offered.delta(PIECE)
            await offered.node.ask()  # the gateway has it, and waits for the caller
        filled.set()
        await ended.wait()
        await offered.delta(finish_reason="stop")
        await offered.prove(PIECE * 2, tokens=(11, 1000))

    ended = asyncio.Event()
    await town.node(script)
    slow = await SlowCaller.ask(town)
    await filled.wait()
    pausing.proceed.set()
    answers = await asyncio.gather(*(stream(town, asyncio.Barrier(1)) for _ in range(100)))
    assert all(b"data: [DONE]\n\n" in answer for answer in answers)
    assert len(town.enclave.logged(Receipt)) == 100, "the slow one has not ended"
    ended.set()
    assert b"[DONE]" in await slow.read()


async def test_every_right_request_succeeds_among_wrong_keys_without_end(town: Town) -> None:
    await town.node()
    numbers, over, refused = itertools.count(), asyncio.Event(), 0

    async def flood() -> None:
        nonlocal refused
        async with connected(town) as (reader, writer):
            while not over.is_set():
                key = f"sk-pnv-{next(numbers):048d}"
                writer.write(head_and_body(town, key=key, connection="keep-alive"))
                answer = await reader.readuntil(b'"invalid_api_key"')
                assert answer.startswith(b"HTTP/1.1 401")
                await reader.readuntil(b'"}')
                refused += 1

    floods = [asyncio.create_task(flood()) for _ in range(FLOODING)]
    client = town.client()
    for _ in range(50):
        town.host.accounts._cache.known.clear()  # as if it had not asked for a second
        answer = await client.post("/v1/chat/completions", json=request())
        assert answer.status_code == 200, answer.text
    over.set()
    await asyncio.gather(*floods)
    assert refused > FLOODING
    assert len(town.host.accounts._cache.unknown) <= CACHED_KEYS_MAX
