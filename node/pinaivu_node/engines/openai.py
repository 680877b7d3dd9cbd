"""The one adapter for all engines: chats, completions and embeddings over the OpenAI protocol.

What is generated is always asked for as a stream, whatever the caller asked, because closing its connection is the only
cancel that every engine knows. Embeddings come in one piece. The engine is trusted by nobody: no redirects, no proxies,
bounded lines, and nothing read past the limit.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

import httpx
import msgspec
import trio

from pinaivu_node.engines.answer import Answer
from pinaivu_node.engines.embeddings import EmbeddingsAnswer
from pinaivu_node.engines.events import EngineError
from pinaivu_node.engines.failures import failure_of_response
from pinaivu_node.engines.request import EngineRequest

CONNECT_SECONDS: Final = 5
DOCUMENT_SECONDS: Final = 30
MAX_DOCUMENT_BYTES: Final = 1 << 20
_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"
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
    async def answer(self, request: EngineRequest) -> AsyncIterator[Answer | EmbeddingsAnswer]:
        """Ask, and read the answer inside the context. Leaving it, also by cancellation, closes the connection.

        EngineError when the engine does not begin an answer. There is no deadline but that for connecting: it is the
        caller's, who knows the award's.
        """
        content, kind = msgspec.json.encode(request.body), _JSON if request.inputs else _EVENTS
        headers = {"content-type": _JSON, "accept": kind}
        try:
            async with self._client.stream("POST", request.path, content=content, headers=headers) as response:
                await _check_begins(response, kind)
                chunks = response.aiter_raw()
                answer = EmbeddingsAnswer(chunks, request) if request.inputs else Answer(chunks, request)
                try:
                    yield answer
                finally:
                    await _leave(chunks, patience=_DRAIN_SECONDS if answer.ended else 0)
        except httpx.TransportError as error:
            down = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise EngineError("engine_unavailable", type(error).__name__, down=down) from error

    async def get(self, path: str, **asked: str) -> dict[str, Any]:
        """A small JSON document of the engine (`/v1/models`, `/props`), `{}` where it has none.

        What is `asked` is posted: Ollama tells of a model in this way only. EngineError when the engine does not
        answer within DOCUMENT_SECONDS or is still loading (5xx).
        """
        try:
            with trio.fail_after(DOCUMENT_SECONDS):
                async with self._client.stream("POST" if asked else "GET", path, json=asked or None) as response:
                    body = await _bounded_body(response)
        except (httpx.HTTPError, trio.TooSlowError) as error:
            raise EngineError("engine_unavailable", f"{path}: {type(error).__name__}", down=True) from error
        if response.is_server_error:
            raise failure_of_response(response.status_code, body)
        try:
            return msgspec.json.decode(body, type=dict[str, Any]) if response.is_success else {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}


async def _check_begins(response: httpx.Response, kind: str) -> None:
    if response.status_code == httpx.codes.OK and response.headers.get("content-type", "").startswith(kind):
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
