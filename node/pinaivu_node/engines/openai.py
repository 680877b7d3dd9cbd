"""The one adapter for all engines: chat completions over the OpenAI protocol, always as a stream.

A stream is asked for whatever the caller asked, because closing its connection is the only cancel that every engine
knows. The engine is trusted by nobody: no redirects, no proxies, bounded lines, and nothing read past the limit.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

import httpx
import msgspec
import trio

from pinaivu_node.engines.answer import Answer
from pinaivu_node.engines.events import EngineError
from pinaivu_node.engines.failures import failure_of_response
from pinaivu_node.engines.request import EngineRequest

CONNECT_SECONDS: Final = 5
DOCUMENT_SECONDS: Final = 30
MAX_DOCUMENT_BYTES: Final = 1 << 20
_KEEP_ALIVE_SECONDS: Final = 3  # below the 5 s after which uvicorn-based engines hang up
_DRAIN_SECONDS: Final = 0.05


class OpenAIEngine:
    """A keep-alive client of one engine. Use it as an async context manager."""

    def __init__(self, address: str, *, api_key: str, connections: int) -> None:
        """`address` is the engine's URL without `/v1`; `connections` bounds how many requests run at once."""
        self._client = httpx.AsyncClient(
            base_url=address,
            headers={"accept-encoding": "identity"} | ({"authorization": f"Bearer {api_key}"} if api_key else {}),
            verify=address.startswith("https:"),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=_KEEP_ALIVE_SECONDS,
            ),
        )

    async def __aenter__(self) -> Self:
        """Open the client."""
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._client.__aexit__(kind, error, traceback)

    @asynccontextmanager
    async def answer(self, request: EngineRequest) -> AsyncIterator[Answer]:
        """Ask, and read the answer inside the context. Leaving it, also by cancellation, closes the connection.

        EngineError when the engine does not begin an answer. There is no deadline but that for connecting: it is the
        caller's, who knows the award's.
        """
        content = msgspec.json.encode(request.body)
        headers = {"content-type": "application/json", "accept": "text/event-stream"}
        try:
            async with self._client.stream(
                "POST", "/v1/chat/completions", content=content, headers=headers
            ) as response:
                await _check_begins_stream(response)
                chunks = response.aiter_raw()
                answer = Answer(chunks, request)
                try:
                    yield answer
                finally:
                    await _leave(chunks, patience=_DRAIN_SECONDS if answer.ended else 0)
        except httpx.TransportError as error:
            down = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise EngineError("engine_unavailable", type(error).__name__, down=down) from error

    async def get(self, path: str) -> dict[str, Any]:
        """A small JSON document of the engine (`/v1/models`, `/props`), `{}` where it has none.

        EngineError when the engine does not answer within DOCUMENT_SECONDS or is still loading (5xx).
        """
        try:
            with trio.fail_after(DOCUMENT_SECONDS):
                async with self._client.stream("GET", path) as response:
                    body = await _bounded_body(response)
        except (httpx.HTTPError, trio.TooSlowError) as error:
            raise EngineError("engine_unavailable", f"{path}: {type(error).__name__}", down=True) from error
        if response.is_server_error:
            raise failure_of_response(response.status_code, body)
        try:
            return msgspec.json.decode(body, type=dict[str, Any]) if response.is_success else {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}


async def _check_begins_stream(response: httpx.Response) -> None:
    kind = response.headers.get("content-type", "")
    if response.status_code == httpx.codes.OK and kind.startswith("text/event-stream"):
        return
    raise failure_of_response(response.status_code, await _bounded_body(response))


async def _bounded_body(response: httpx.Response) -> bytes:
    """The first MAX_DOCUMENT_BYTES of a body."""
    body, chunks = b"", response.aiter_raw()
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_DOCUMENT_BYTES:
            await _leave(chunks, patience=0)
    return body[:MAX_DOCUMENT_BYTES]


async def _leave(chunks: AsyncIterator[bytes], *, patience: float) -> None:
    """Read to the end of the body for `patience` seconds, so that the connection can be used again.

    Without patience the reading is cancelled at once, which unwinds httpx's nested generators in good order.
    """
    with trio.move_on_after(patience), suppress(httpx.HTTPError):
        async for _ in chunks:
            pass
