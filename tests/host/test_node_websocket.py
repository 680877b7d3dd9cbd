"""The WebSocket under the node endpoint: a peer that sends frames without end keeps nobody else from being served."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.host.town import Town
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from pinaivu_host.node_websocket import FRAGMENTS_MAX
from pinaivu_shared.wire import node as wire

from .test_nodes import HELLO, dial

pytestmark = pytest.mark.anyio
MASK = bytes(4)
FIRST, FRAGMENT, EMPTY_FRAGMENT = (
    b"\x02\x81" + MASK + b"x",
    b"\x00\x81" + MASK + b"x",
    b"\x00\x80" + MASK,
)
PING = b"\x89\x80" + MASK


@asynccontextmanager
async def upgraded(town: Town) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection to the endpoint, on which any bytes may follow."""
    reader, writer = await asyncio.open_connection("127.0.0.1", town.port)
    key = base64.b64encode(bytes(16)).decode()
    try:
        writer.write(
            f"GET {wire.NODE_PATH} HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def flooding(town: Town, first: bytes, frame: bytes) -> AsyncIterator[None]:
    """A stranger that sends this frame again and again, on a new connection whenever the last one was closed."""
    begun = asyncio.Event()

    async def flood() -> None:
        while True:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                async with upgraded(town) as (_, writer):
                    writer.write(first)
                    while True:
                        writer.write(frame * 4096)
                        await writer.drain()
                        begun.set()

    flood_ = asyncio.create_task(flood())
    await begun.wait()
    try:
        yield
    finally:
        flood_.cancel()
        await asyncio.gather(flood_, return_exceptions=True)


@pytest.mark.parametrize(
    ("first", "frame"),
    [(FIRST, FRAGMENT), (FIRST, EMPTY_FRAGMENT), (b"", PING)],
    ids=["fragments", "empty fragments", "pings"],
)
async def test_a_flood_of_tiny_frames_keeps_nobody_from_an_answer(town: Town, first: bytes, frame: bytes) -> None:
    await town.node()
    async with flooding(town, first, frame):
        for _ in range(5):
            assert (await town.chat()).status_code == 200


@pytest.mark.parametrize("frame", [FRAGMENT, EMPTY_FRAGMENT], ids=["of a byte", "of nothing"])
async def test_a_message_in_too_many_fragments_ends_the_connection(town: Town, frame: bytes) -> None:
    async with upgraded(town) as (reader, writer):
        writer.write(FIRST + frame * FRAGMENTS_MAX)
        answer = await reader.read()
    assert b"too many fragments" in answer


async def test_a_message_in_as_many_fragments_as_are_allowed_is_a_message(town: Town) -> None:
    raw = wire.encode(HELLO)
    pieces = [raw[:1], *[b""] * (FRAGMENTS_MAX - 3), raw[1:]]  # after which the client sends an empty last one
    async with await dial(town) as socket:
        await socket.send(pieces)
        welcome = wire.decode_from_gateway(await socket.recv(decode=False))
    assert isinstance(welcome, wire.Welcome)


async def test_a_message_of_many_reads_is_taken_whole(town: Town) -> None:
    """It is looked at in pieces, and then refused for what it is: no Hello."""
    async with await dial(town) as socket:
        await socket.send(b"\xc1" * wire.MAX_HANDSHAKE_MESSAGE_BYTES)
        goodbye = wire.decode_from_gateway(await socket.recv(decode=False))
        assert isinstance(goodbye, wire.Goodbye)
        assert goodbye.code == "protocol_error"
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def closed(socket: ClientConnection) -> int | None:
    """Wait for the end; its close code."""
    with pytest.raises(ConnectionClosed):
        await socket.recv()
    return socket.close_code


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "in fragments"])
async def test_whoever_is_not_registered_may_send_short_messages_only(town: Town, *, cut: bool) -> None:
    size = wire.MAX_HANDSHAKE_MESSAGE_BYTES + 1
    async with await dial(town) as socket:
        await socket.send([b"x" * (size // 2), b"x" * (size - size // 2)] if cut else b"x" * size)
        assert await closed(socket) == CloseCode.MESSAGE_TOO_BIG


def long_message(size_bytes: int) -> wire.Delta:
    """About a job that nobody knows."""
    empty = wire.Delta("req_" + "0" * 26, "x" * 70_000)
    return wire.Delta(empty.request_id, "x" * (size_bytes - len(wire.encode(empty)) + 70_000))


async def test_a_registered_node_may_send_longer_ones(town: Town) -> None:
    node = await town.node()
    longest = long_message(wire.MAX_NODE_MESSAGE_BYTES)
    assert len(wire.encode(longest)) == wire.MAX_NODE_MESSAGE_BYTES
    await node.send(longest)
    await node.ask()
    await node.send(long_message(wire.MAX_NODE_MESSAGE_BYTES + 1))
    await node.gone()
    assert node.close_code == CloseCode.MESSAGE_TOO_BIG


async def test_a_nodes_connection_is_not_idle_by_the_measure_of_http(town: Town) -> None:
    town.server.config.timeout_keep_alive = 0
    node = await town.node()
    await node.ask()
    await node.ask()
