"""What a worker does not answer itself, passed on to the host's process over a Unix socket, byte for byte."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

import httpx
from starlette.types import Receive, Scope, Send

from pinaivu_host.gateway.body import CallerGoneError, read_bytes
from pinaivu_host.gateway.delivery import SEND_LIMIT_S
from pinaivu_host.gateway.error_table import NOT_FOUND
from pinaivu_host.gateway.errors import ApiError, coordinator_unavailable

CONNECTIONS_MAX: Final = 256
ANSWER_LIMIT_S: Final = 120.0
BODY_BYTES_MAX: Final = 64 * 1024
"""Only the operator's requests have bodies here, and short ones."""
_OF_ONE_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect",
    b"date", b"x-forwarded-for", b"x-forwarded-proto",
})  # fmt: skip
"""Headers that are about the connection to the caller, or that only a worker may set."""
_OF_BODIES: Final = frozenset({b"content-length", b"transfer-encoding"})


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
        request = await self._request(scope, receive)
        try:
            response = await self._client.send(request, stream=True)
        except httpx.LocalProtocolError:
            raise ApiError(NOT_FOUND, "there is no such path") from None
        except httpx.TransportError:
            raise coordinator_unavailable() from None
        try:
            headers = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in _OF_ONE_HOP]
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            async for piece in response.aiter_raw():
                await _in_time(send({"type": "http.response.body", "body": piece, "more_body": True}))
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()

    async def _request(self, scope: Scope, receive: Receive) -> httpx.Request:
        """With its whole body: a caller who is slow to send it holds up no connection to the host meanwhile."""
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        headers = [(name, value) for name, value in scope["headers"] if name not in _OF_ONE_HOP | _OF_BODIES]
        if scope.get("client"):
            headers.append((b"x-forwarded-for", scope["client"][0].encode()))
        headers.append((b"x-forwarded-proto", scope["scheme"].encode()))
        has_body = any(name in _OF_BODIES for name, _ in scope["headers"])
        return httpx.Request(
            scope["method"],
            self._client.base_url,
            headers=headers,
            content=await read_bytes(scope, receive, BODY_BYTES_MAX) if has_body else None,
            extensions={"target": target},  # a URL would have its dots resolved, and lead elsewhere than it was checked
        )


async def _in_time(sending: Awaitable[None]) -> None:
    """CallerGoneError for a caller who reads so slowly that others would lack his connection to the host."""
    try:
        async with asyncio.timeout(SEND_LIMIT_S):
            await sending
    except TimeoutError:
        raise CallerGoneError from None
