"""What a worker does not answer itself, passed on to the host's process over a Unix socket, byte for byte."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
from starlette.types import Receive, Scope, Send

from pinaivu_host.gateway.body import CallerGoneError
from pinaivu_host.gateway.errors import COORDINATOR_UNAVAILABLE, ApiError

CONNECTIONS_MAX: Final = 256
ANSWER_LIMIT_S: Final = 120.0
_OF_ONE_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    b"date", b"x-forwarded-for", b"x-forwarded-proto",
})  # fmt: skip
"""Headers that are about the connection to the caller, or that only a worker may set."""


class Relay:
    """An ASGI application for everything but asking."""

    def __init__(self, path: Path) -> None:
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=str(path), limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=16)
            ),
            base_url="http://host",
            timeout=ANSWER_LIMIT_S,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and its answer back; ApiError where the host does not answer."""
        try:
            response = await self._client.send(self._request(scope, receive), stream=True)
        except httpx.TransportError:
            raise ApiError(COORDINATOR_UNAVAILABLE, "the coordinator is not available right now, try again") from None
        try:
            headers = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in _OF_ONE_HOP]
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            async for piece in response.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()

    def _request(self, scope: Scope, receive: Receive) -> httpx.Request:
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        headers = [(name, value) for name, value in scope["headers"] if name not in _OF_ONE_HOP]
        if scope.get("client"):
            headers.append((b"x-forwarded-for", scope["client"][0].encode()))
        headers.append((b"x-forwarded-proto", scope["scheme"].encode()))
        has_body = any(name in {b"content-length", b"transfer-encoding"} for name, _ in scope["headers"])
        return httpx.Request(
            scope["method"],
            self._client.base_url.copy_with(raw_path=target),
            headers=headers,
            content=_body(receive) if has_body else None,
        )


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGoneError
        yield message.get("body", b"")
        more = message.get("more_body", False)
