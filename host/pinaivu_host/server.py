"""The HTTP server around the gateway: uvicorn, with its signals in our hands, so that streams end before sockets do."""

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn

from pinaivu_host.edge import EdgeSettings
from pinaivu_host.gateway.app import Gateway
from pinaivu_host.host import Host
from pinaivu_host.http_protocol import BoundedHttp
from pinaivu_host.node_websocket import NodeWebSocket
from pinaivu_shared.wire.node import MAX_HANDSHAKE_MESSAGE_BYTES

logger = logging.getLogger(__name__)
SEND_BUFFER_BYTES: Final = 64 * 1024
"""Small, since what the kernel holds for a caller who does not read would count as delivered."""
PING_INTERVAL_S: Final = 5.0
CONNECTIONS_END_S: Final = 10
KEEP_ALIVE_S: Final = 75
"""Longer than clients keep idle connections: whoever closes first should be the one who knows."""
BACKLOG: Final = 2048
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class GatewayServer(uvicorn.Server):
    """A uvicorn server that leaves signals to its owner; ends when `should_exit` is set."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def make_server(app: Gateway, edge: EdgeSettings) -> GatewayServer:
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


async def serve(host: Host, listener: socket.socket, edge: EdgeSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain and end; the second of them ends the process where it is.

    SIGHUP has the certificate's files read again.
    """
    server = make_server(host.app, edge)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, _begin_to_stop, loop, stopping)
    if edge.certificate is not None:
        loop.add_signal_handler(signal.SIGHUP, edge.certificate.read_again)
    await host.start()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    waiting = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        await host.drain()
        server.should_exit = True
        await serving
    finally:
        waiting.cancel()
        await host.stop()


def _begin_to_stop(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    logger.info("shutting down; a second signal ends this process at once")
    for number in STOP_SIGNALS:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
    stopping.set()


def _http_protocol(edge: EdgeSettings) -> type[BoundedHttp]:
    class EdgeHttp(BoundedHttp):
        connections_max = edge.connections_max
        head_s = edge.head_s

    return EdgeHttp


def _context_of(edge: EdgeSettings) -> Callable[[uvicorn.Config, Callable[[], ssl.SSLContext]], ssl.SSLContext] | None:
    certificate = edge.certificate
    return None if certificate is None else lambda _config, _default: certificate.context
