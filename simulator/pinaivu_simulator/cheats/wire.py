"""The connection of a node that cheats: the agent's own, over a stream that does what no library would."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import trio
import trio_websocket

from pinaivu_node.connection import ConnectionLostError, GatewayConnection
from pinaivu_shared.wire.node import MAX_MESSAGE_BYTES, FromGateway, FromNode

_QUEUED_MESSAGES: Final = 16
_BINARY, _CONTINUATION = 0x2, 0x0
_FINAL, _MASKED = 0x80, 0x80
_SHORT_BYTES_MAX: Final = 125


class RawStream(trio.abc.Stream):
    """A TCP stream that can be told to send in pieces of `piece_bytes`, or to say nothing any more (`muted`)."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream, self._lock = stream, trio.Lock()
        self.piece_bytes, self.muted = 0, False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it, in pieces if told so; drop it when muted."""
        async with self._lock:
            size = self.piece_bytes or len(data) or 1
            for start in range(0, len(data), size):
                if not self.muted:
                    await self._stream.send_all(data[start : start + size])

    async def wait_send_all_might_not_block(self) -> None:
        """See trio."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See trio."""
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """See trio."""
        await self._stream.aclose()


class Wire:
    """What a cheat can do to the gateway: whole messages, any bytes as a message, any bytes at all, silence."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection, stream: RawStream) -> None:
        self._websocket, self._stream = websocket, stream
        self._gateway = GatewayConnection(websocket)

    async def send(self, message: FromNode) -> None:
        """One message, as the agent sends it."""
        await self._gateway.send(message)

    async def send_raw(self, content: bytes | str) -> None:
        """One WebSocket message with whatever is in it."""
        try:
            await self._websocket.send_message(content)
        except trio_websocket.ConnectionClosed as error:
            raise ConnectionLostError("gateway", f"closed: {error.reason}") from None

    async def send_bytes(self, content: bytes) -> None:
        """Bytes on the TCP stream, whatever WebSocket frames they make."""
        try:
            await self._stream.send_all(content)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionLostError("gateway", f"closed: {type(error).__name__}") from None

    async def receive(self) -> FromGateway:
        """The next message; PeerError for garbage, ConnectionLostError at the end."""
        return await self._gateway.receive()

    async def ping(self) -> None:
        """Return when the other side has answered."""
        await self._gateway.ping()

    def dribble(self, piece_bytes: int) -> None:
        """From now on every frame is sent in pieces of this size."""
        self._stream.piece_bytes = piece_bytes

    def fall_silent(self) -> None:
        """From now on nothing is sent, not even the answer to a ping; the connection stays open."""
        self._stream.muted = True


def fragment(content: bytes, *, first: bool, last: bool) -> bytes:
    """One masked WebSocket frame of at most 125 bytes (RFC 6455 5.2) of a binary message; the mask is zero."""
    assert len(content) <= _SHORT_BYTES_MAX
    opcode = _BINARY if first else _CONTINUATION
    return bytes([opcode | (_FINAL if last else 0), _MASKED | len(content)]) + bytes(4) + content


@asynccontextmanager
async def open_wire(url: str) -> AsyncIterator[Wire]:
    """Dial the gateway at its ws:// URL; ConnectionLostError when it cannot be reached."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.scheme == "ws", "cheats run against a network on this machine"
    async with trio.open_nursery() as nursery:
        try:
            stream = RawStream(await trio.open_tcp_stream(parts.hostname, parts.port or 80))
            websocket = await trio_websocket.wrap_client_stream(
                nursery,
                stream,  # type: ignore[arg-type]  # it needs no more than any stream of trio
                parts.netloc,
                parts.path,
                message_queue_size=_QUEUED_MESSAGES,
                max_message_size=MAX_MESSAGE_BYTES,
            )
        except (OSError, trio.BrokenResourceError, trio_websocket.HandshakeError) as error:
            raise ConnectionLostError("gateway", f"cannot be reached: {error!r}") from None
        try:
            yield Wire(websocket, stream)
        finally:
            await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()
