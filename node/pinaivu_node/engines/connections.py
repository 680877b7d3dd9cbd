"""Keep-alive connections to one engine, over those of httpcore.

httpcore has a pool as well. Whenever a request comes or goes, that looks at every connection for every other one, which
with some dozens of them costs more than the asking.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Final

import httpcore
import trio

KEEP_ALIVE_SECONDS: Final = 3  # below the 5 s after which uvicorn-based engines hang up
_HUNG_UP: Final = (httpcore.RemoteProtocolError, httpcore.ReadError)
"""How it looks when a server closed a connection before it began an answer. llama.cpp does so after some hundred."""


class Connections:
    """At most `limit` connections at once to `origin`, of which the one that was used last is used next."""

    def __init__(self, origin: httpcore.Origin, *, tls: SSLContext | None, limit: int) -> None:
        """`tls` is for an origin of https."""
        self._origin, self._tls = origin, tls
        self._unused = trio.Semaphore(limit)
        self._idle: deque[httpcore.AsyncHTTPConnection] = deque()

    @asynccontextmanager
    async def stream(self, request: httpcore.Request) -> AsyncIterator[httpcore.Response]:
        """The response, to be read inside the context. Leaving it before its end closes the connection."""
        async with self._unused:
            connection, response = await self._begin(request)
            try:
                yield response
            finally:
                with trio.CancelScope(shield=True):
                    await response.aclose()
                    await self._give_back(connection)

    async def aclose(self) -> None:
        """Close what is idle."""
        while self._idle:
            await _close(self._idle.pop())

    async def _begin(self, request: httpcore.Request) -> tuple[httpcore.AsyncHTTPConnection, httpcore.Response]:
        """Ask, and ask once more on each connection that turns out to be dead only now that it is used again."""
        while True:
            used = await self._idle_one()
            connection = used or self._new()
            try:
                return connection, await connection.handle_async_request(request)
            except BaseException as error:
                await _close(connection)
                if used is None or not isinstance(error, _HUNG_UP):
                    raise

    async def _idle_one(self) -> httpcore.AsyncHTTPConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await _close(connection)
        return None

    def _new(self) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(
            self._origin,
            ssl_context=self._tls,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            network_backend=httpcore.TrioBackend(),
        )

    async def _give_back(self, connection: httpcore.AsyncHTTPConnection) -> None:
        """Keep it if it can be used again, and close those that nobody used for long."""
        if connection.is_available():
            self._idle.append(connection)
        else:
            await _close(connection)
        while self._idle and self._idle[0].has_expired():
            await _close(self._idle.popleft())


async def _close(connection: httpcore.AsyncHTTPConnection) -> None:
    with trio.CancelScope(shield=True):
        await connection.aclose()
