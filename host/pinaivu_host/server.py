"""The HTTP server around the gateway: uvicorn, with its signals in our hands, so that streams end before sockets do."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn

from pinaivu_host.gateway.app import Gateway
from pinaivu_host.host import Host
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


def make_server(app: Gateway) -> GatewayServer:
    """The server as it is always run, in tests as well."""
    return GatewayServer(
        uvicorn.Config(
            app,
            http="httptools",
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


async def serve(host: Host, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, then drain and end."""
    server = make_server(host.app)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
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
