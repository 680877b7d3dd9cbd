"""Byte streams of the event loop over sockets that are already connected."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

BUFFER_BYTES: Final = 64 * 1024
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def open_stream(connected: socket.socket) -> Stream:
    """Reader and writer of a connected socket, which belongs to them from here on.

    uvloop takes every family that is not AF_UNIX for TCP, and fails to set TCP_NODELAY on a vsock. So a vsock is shown
    to it as AF_UNIX, of which it wants no more than a stream of bytes.
    """
    connected.setblocking(False)  # noqa: FBT003 - its name says it
    if connected.family == socket.AF_VSOCK:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=connected.detach())
    try:
        return await asyncio.open_connection(sock=connected, limit=BUFFER_BYTES)
    except BaseException:
        connected.close()
        raise


@contextmanager
def aborting(stream: Stream) -> Iterator[None]:
    """Close the stream on the way out, at once: what was not drained is lost."""
    try:
        yield
    finally:
        stream[1].transport.abort()
