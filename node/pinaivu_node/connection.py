"""The connection to the gateway: one WebSocket, dialled from here, so that a node works behind any NAT."""

import http
import http.client
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Final, Protocol
from urllib.parse import urlsplit

import h11
import msgspec
import trio
import trio_websocket

from pinaivu_shared.errors import PeerError
from pinaivu_shared.wire.node import MAX_MESSAGE_BYTES, FromGateway, FromNode, decode_from_gateway, encode

CONNECT_SECONDS: Final = 20
_ADDRESS_ADVICE: Final = (
    "is its address right? A gateway of several processes has another one for nodes, with a port of its own: ask its "
    "operator for what --node-listen serves"
)
_CLOSE_SECONDS: Final = 2
_QUEUED_MESSAGES: Final = 16
_RECEIVE_BYTES: Final = 64 * 1024
_Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class ConnectionLostError(PeerError):
    """The gateway cannot be reached, or the connection to it ended."""

    code = "connection_lost"


class ReplacedError(ConnectionLostError):
    """The market ended this session because another process registered with the same key: the newer one counts."""

    code = "replaced"


class Connection(Protocol):
    """What a session needs of a connection. Only one task may send."""

    async def send(self, message: FromNode) -> None:
        """Hand one message to the network; waits while the network is slower."""
        ...

    async def receive(self) -> FromGateway:
        """The next message; PeerError for garbage, ConnectionLostError at the end."""
        ...

    async def ping(self) -> None:
        """Return when the other side has answered."""
        ...


Dial = Callable[[], AbstractAsyncContextManager[Connection]]


class GatewayConnection:
    """A `Connection` over trio-websocket."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection) -> None:
        self._websocket = websocket

    async def send(self, message: FromNode) -> None:
        """See `Connection`."""
        try:
            await self._websocket.send_message(encode(message))
        except trio_websocket.ConnectionClosed as error:
            raise _lost(error) from None

    async def receive(self) -> FromGateway:
        """See `Connection`."""
        try:
            raw = await self._websocket.get_message()
        except trio_websocket.ConnectionClosed as error:
            raise _lost(error) from None
        if isinstance(raw, str):
            raise PeerError("gateway", "sent text where messages are binary")
        try:
            return decode_from_gateway(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PeerError("gateway", f"sent what is no message: {error}") from error

    async def ping(self) -> None:
        """See `Connection`."""
        try:
            await self._websocket.ping()
        except trio_websocket.ConnectionClosed as error:
            raise _lost(error) from None


@asynccontextmanager
async def open_connection(url: str) -> AsyncIterator[GatewayConnection]:
    """Dial the gateway at its WebSocket URL.

    Raises ConnectionLostError, alone or in a group, when no WebSocket begins within CONNECT_SECONDS; it says why.
    """
    with _naming_refusals():
        async with trio.open_nursery() as nursery:
            with _reaching():
                stream = await _dial(url)
            try:
                with _reaching():
                    websocket = await _begin_websocket(nursery, stream, url)
                try:
                    yield GatewayConnection(websocket)
                finally:
                    with trio.move_on_after(_CLOSE_SECONDS):
                        await websocket.aclose()
            finally:
                await trio.aclose_forcefully(stream)
                nursery.cancel_scope.cancel()


@contextmanager
def _naming_refusals() -> Iterator[None]:
    """An answer that is no WebSocket is met by the reader task of trio-websocket, so that it ends the nursery."""
    try:
        yield
    except* trio_websocket.ConnectionRejected as group:
        raise ConnectionLostError("gateway", _refusal(group)) from None
    except* h11.ProtocolError:
        raise ConnectionLostError("gateway", "answered what is no HTTP; is its address right?") from None


def _refusal(group: BaseExceptionGroup[trio_websocket.ConnectionRejected]) -> str:
    (rejected,) = group.exceptions
    if isinstance(rejected, BaseExceptionGroup):
        return _refusal(rejected)
    status = rejected.status_code
    answered = f"answered {status} {http.client.responses.get(status, '')}".rstrip()
    advice = "" if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR else f"; {_ADDRESS_ADVICE}"
    return f"{answered} where a WebSocket was asked for{advice}"


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        with trio.fail_after(CONNECT_SECONDS):
            yield
    except (OSError, ssl.SSLError, trio.BrokenResourceError, trio.TooSlowError) as error:
        raise ConnectionLostError("gateway", _fault(error)) from None


def _fault(error: Exception) -> str:
    """Why there is no connection. What was wrong with TLS is the cause of an error that says nothing itself."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"has a TLS certificate that is not trusted: {cause.verify_message}"
    told = cause if isinstance(cause, ssl.SSLError) else error
    return f"cannot be reached: {type(told).__name__} {told}".strip()


async def _dial(url: str) -> _Stream:
    parts = urlsplit(url)
    assert parts.hostname is not None
    if parts.scheme == "ws":
        return await trio.open_tcp_stream(parts.hostname, parts.port or 80)
    stream = await trio.open_ssl_over_tcp_stream(parts.hostname, parts.port or 443, https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _begin_websocket(nursery: trio.Nursery, stream: _Stream, url: str) -> trio_websocket.WebSocketConnection:
    parts = urlsplit(url)
    return await trio_websocket.wrap_client_stream(
        nursery,
        stream,
        parts.netloc,
        parts.path,
        message_queue_size=_QUEUED_MESSAGES,
        max_message_size=MAX_MESSAGE_BYTES,
        receive_buffer_size=_RECEIVE_BYTES,
    )


def _lost(error: trio_websocket.ConnectionClosed) -> ConnectionLostError:
    """What to make of the end. A Goodbye may be overtaken by the close that follows it, so the reason is looked at."""
    reason = error.reason
    detail = f"closed: {reason.code} {reason.name} {reason.reason or ''}".strip() if reason else "closed"
    kind = ReplacedError if reason and reason.reason == ReplacedError.code else ConnectionLostError
    return kind("gateway", detail)
