"""What the KMS bridge carries once it has signed: bytes both ways, of many at once, whatever either end does."""

import asyncio
import logging
import resource
import secrets
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from tests.host.bridged import REQUEST, Bridged, bridged, kv, read_answer

from pinaivu_host.kms_bridge import CONNECTIONS_MAX
from pinaivu_shared.framing import frame
from pinaivu_shared.wire.kms import MAX_BRIDGE_FRAME_BYTES, SignedHeaders

pytestmark = pytest.mark.anyio


async def logged(caplog: pytest.LogCaptureFixture, event: str) -> None:
    while event not in caplog.messages:  # noqa: ASYNC110 - the bridge logs it after the pipe has ended
        await asyncio.sleep(0)


async def test_after_the_signature_bytes_go_both_ways(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with bridged(tmp_path) as opened:
        reader, writer = await opened.pipe()
        writer.write(b"client hello")
        assert await reader.readexactly(12) == b"client hello"
        writer.write(b", finished")
        writer.write_eof()
        assert await reader.read() == b", finished and good-bye"
        await logged(caplog, "KMS request carried")
        writer.close()
    carried = {"target": "TrentService.Decrypt", "outwards": 22, "inwards": 35, "end": "closed"}
    assert kv(caplog, "KMS request carried") == carried


async def test_large_volumes_arrive_whole(tmp_path: Path) -> None:
    content = secrets.token_bytes(8 * 1024 * 1024)
    async with bridged(tmp_path) as opened:
        reader, writer = await opened.pipe()

        async def send() -> None:
            writer.write(content)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        assert await reader.read() == content + b" and good-bye"
        await sending
        writer.close()


async def test_who_does_not_read_is_sent_no_more_than_buffers_hold(tmp_path: Path) -> None:
    sent = 0
    stalled = asyncio.Event()

    async def flood(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal sent
        while sent < 64 * 1024 * 1024:
            writer.write(bytes(65536))
            draining = asyncio.create_task(writer.drain())
            for _ in range(1000):  # as many turns of the loop in which nothing moves: every buffer on the way is full
                await asyncio.sleep(0)
                if draining.done():
                    break
            else:
                stalled.set()
                await draining
            sent += 65536
        stalled.set()

    async with bridged(tmp_path, flood) as opened:
        _, writer = await opened.pipe()
        await stalled.wait()
        writer.close()
    assert sent < 16 * 1024 * 1024


@pytest.mark.parametrize("after", [0, 1, 100_000])
async def test_an_endpoint_that_breaks_ends_the_pipe(tmp_path: Path, after: int) -> None:
    async def reset(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(bytes(after))
        await writer.drain()
        await reader.readexactly(1)
        writer.transport.abort()

    async with bridged(tmp_path, reset) as opened:
        for _ in range(CONNECTIONS_MAX + 1):
            reader, writer = await opened.pipe()
            await reader.readexactly(after)
            writer.write(b"x" * 1000)
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()


async def test_an_enclave_that_breaks_ends_the_pipe(tmp_path: Path) -> None:
    ended: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(ConnectionError):
            ended.put_nowait(await reader.read())

    async with bridged(tmp_path, listen) as opened:
        for _ in range(CONNECTIONS_MAX + 1):
            _, writer = await opened.pipe()
            writer.write(b"half of it")
            await writer.drain()
            writer.transport.abort()
            assert await ended.get() in {b"half of it", b""}


async def test_a_pipe_in_which_nothing_moves_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pinaivu_host.kms_bridge.IDLE_LIMIT_S", 0.05)
    caplog.set_level(logging.INFO)

    async def wait(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read()

    async with bridged(tmp_path, wait) as opened:
        reader, writer = await opened.pipe()
        assert await reader.read() == b""
        await logged(caplog, "KMS request carried")
        writer.close()
    assert kv(caplog, "KMS request carried")["end"] == "idle"


async def test_slow_callers_are_given_up_and_others_get_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinaivu_host.kms_bridge.REQUEST_LIMIT_S", 0.05)
    async with bridged(tmp_path) as opened:
        slow = [await opened.dial() for _ in range(CONNECTIONS_MAX)]
        for _, writer in slow:
            writer.write(b"\0")
        (await opened.pipe())[1].close()
        for reader, writer in slow:
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()


async def test_more_connections_than_are_served_at_once_wait(tmp_path: Path) -> None:
    at_once = most = 0
    proceed = asyncio.Event()

    async def count(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await proceed.wait()
        at_once -= 1

    async with bridged(tmp_path, count) as opened:
        first = [await opened.pipe() for _ in range(CONNECTIONS_MAX)]
        waiting = [await opened.dial() for _ in range(3)]
        for _, writer in waiting:
            writer.write(frame(msgspec.msgpack.encode(REQUEST), max_bytes=MAX_BRIDGE_FRAME_BYTES))
        for _ in range(1000):  # turns of the loop in which they could be served
            await asyncio.sleep(0)
        assert at_once == CONNECTIONS_MAX
        proceed.set()
        for _, writer in first:
            writer.close()
        for reader, writer in waiting:
            assert isinstance(await read_answer(reader), SignedHeaders)
            writer.close()
    assert most == CONNECTIONS_MAX


def open_descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


async def test_a_thousand_connections_are_served_in_turn_and_leave_nothing_behind(tmp_path: Path) -> None:
    before = open_descriptors()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 1024

    async def use(opened: Bridged) -> None:
        reader, writer = await opened.pipe()
        writer.write(b"x")
        writer.write_eof()
        assert await reader.read() == b"x and good-bye"
        writer.close()

    async with bridged(tmp_path) as opened:
        gate = asyncio.Semaphore(50)

        async def in_turn() -> None:
            async with gate:
                await use(opened)

        await asyncio.gather(*(in_turn() for _ in range(1000)))
    assert open_descriptors() <= before + 2
