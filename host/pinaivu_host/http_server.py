"""The HTTP server around the gateway: uvicorn, with its signals in the hands of whoever runs it (`server`)."""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from pinaivu_host.edge import EdgeSettings
from pinaivu_host.http_protocol import BoundedHttp
from pinaivu_host.node_websocket import NodeWebSocket
from pinaivu_shared.wire.node import MAX_HANDSHAKE_MESSAGE_BYTES

SEND_BUFFER_BYTES: Final = 64 * 1024
"""Small, since what the kernel holds for a caller who does not read would count as delivered."""
PING_INTERVAL_S: Final = 5.0
CONNECTIONS_END_S: Final = 10
KEEP_ALIVE_S: Final = 75
"""Longer than clients keep idle connections: whoever closes first should be the one who knows."""
BACKLOG: Final = 2048


class GatewayServer(uvicorn.Server):
    """A uvicorn server that leaves signals to its owner; ends when `should_exit` is set."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    def _log_started_message(self, listeners: Sequence[socket.SocketType]) -> None:
        """Say nothing: uvicorn would name the socket between host and workers, which nobody else connects to."""


def make_server(app: ASGIApp, edge: EdgeSettings, *, unix_socket: Path | None = None) -> GatewayServer:
    """The server as it is always run, in tests as well. No variable of the environment changes whom it believes."""
    return GatewayServer(
        uvicorn.Config(
            app,
            http=_http_protocol(edge),
            ws=NodeWebSocket,
            ws_max_size=MAX_HANDSHAKE_MESSAGE_BYTES,
            ws_ping_interval=PING_INTERVAL_S,
            ws_ping_timeout=2 * PING_INTERVAL_S,
            ws_per_message_deflate=False,
            uds=None if unix_socket is None else str(unix_socket),
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            backlog=BACKLOG,
            proxy_headers=bool(edge.trusted_proxies),
            forwarded_allow_ips=list(edge.trusted_proxies),
            ssl_context_factory=_context_of(edge),
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=CONNECTIONS_END_S,
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. OSError when the address is taken."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # accepted sockets inherit it
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _http_protocol(edge: EdgeSettings) -> type[BoundedHttp]:
    class EdgeHttp(BoundedHttp):
        connections_max = edge.connections_max
        head_s = edge.head_s

    return EdgeHttp


def _context_of(edge: EdgeSettings) -> Callable[[uvicorn.Config, Callable[[], ssl.SSLContext]], ssl.SSLContext] | None:
    certificate = edge.certificate
    return None if certificate is None else lambda _config, _default: certificate.context
