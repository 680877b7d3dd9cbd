"""Serving a host over HTTP until somebody says stop; streams end before sockets do."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Final

from pinaivu_host.certificate import ServerCertificate
from pinaivu_host.edge import EdgeSettings
from pinaivu_host.host import Host
from pinaivu_host.http_server import make_server

logger = logging.getLogger(__name__)
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


async def serve(host: Host, listener: socket.socket, edge: EdgeSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain and end; the second of them ends the process where it is.

    SIGHUP has the certificate's files read again.
    """
    server = make_server(host.app, edge)
    stopping = heed_signals(edge)
    await host.start()
    logger.info("listening", extra={"kv": {"listen": address_of(listener)}})
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await first_of(stopping, [serving])
        await host.drain()
        server.should_exit = True
        await serving
    finally:
        await host.stop()


def address_of(listener: socket.socket) -> str:
    """HOST:PORT of a listening socket, with the port that it got."""
    name, port, *_ = listener.getsockname()
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def heed_signals(edge: EdgeSettings, *, on_hangup: Callable[[], None] | None = None) -> asyncio.Event:
    """The event that a signal to stop sets; SIGHUP has the certificate's files read again, and `on_hangup` called."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, _begin_to_stop, loop, stopping)
    if edge.certificate is not None:
        loop.add_signal_handler(signal.SIGHUP, _hang_up, edge.certificate, on_hangup)
    return stopping


async def first_of(stopping: asyncio.Event, serving: Sequence[asyncio.Task[None]]) -> None:
    """Wait for the event, or for the end of one of these."""
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait({*serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


def _hang_up(certificate: ServerCertificate, others: Callable[[], None] | None) -> None:
    certificate.read_again()
    if others is not None:
        others()


def _begin_to_stop(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    logger.info("shutting down; a second signal ends this process at once")
    for number in STOP_SIGNALS:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
    stopping.set()
