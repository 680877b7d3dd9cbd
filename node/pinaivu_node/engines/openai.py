"""The one adapter for all engines: chats, completions and embeddings over the OpenAI protocol.

What is generated is always asked for as a stream, whatever the caller asked, because closing its connection is the only
cancel that every engine knows. Embeddings come in one piece. The engine is trusted by nobody: no redirects, no proxies,
bounded lines, and nothing read past the limit.

httpcore is asked directly: what httpx makes of every request and response costs more than all else that a node does.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

import httpcore
import httpx
import msgspec
import trio

from pinaivu_node.engines.answer import Answer
from pinaivu_node.engines.connections import Connections
from pinaivu_node.engines.embeddings import EmbeddingsAnswer
from pinaivu_node.engines.events import EngineError
from pinaivu_node.engines.failures import TRANSPORT_ERRORS, failure_of_response, parsed
from pinaivu_node.engines.request import EngineRequest

CONNECT_SECONDS: Final = 5
DOCUMENT_SECONDS: Final = 30
MAX_DOCUMENT_BYTES: Final = 1 << 20
_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"
_MODELS: Final = "/v1/models"
_ADDRESS_ADVICE: Final = "is its address right? It is the one for OpenAI's clients, with or without /v1 at its end"
_DRAIN_SECONDS: Final = 0.05
_EXTENSIONS: Final = {"timeout": {"connect": CONNECT_SECONDS}}


class OpenAIEngine:
    """A keep-alive client of one engine. Use it as an async context manager."""

    def __init__(self, address: str, *, api_key: str, connections: int) -> None:
        """`address` is the engine's URL without `/v1`; `connections` bounds how many requests run at once."""
        self._url = httpx.URL(address)
        self._path = self._url.raw_path.rstrip(b"/")
        self._headers = [(b"host", self._url.netloc), (b"accept-encoding", b"identity")]
        if api_key:
            self._headers.append((b"authorization", f"Bearer {api_key}".encode()))
        self._connections = Connections(
            self._target(b"/").origin,
            tls=ssl.create_default_context() if self._url.scheme == "https" else None,
            limit=connections,
        )

    async def __aenter__(self) -> Self:
        """Itself; connections are made when they are needed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._connections.aclose()

    @asynccontextmanager
    async def answer(self, request: EngineRequest) -> AsyncIterator[Answer | EmbeddingsAnswer]:
        """Ask, and read the answer inside the context. Leaving it, also by cancellation, closes the connection.

        EngineError when the engine does not begin an answer. There is no deadline but that for connecting: it is the
        caller's, who knows the award's.
        """
        content, kind = msgspec.json.encode(request.body), _JSON if request.inputs else _EVENTS
        try:
            async with self._asked(request.path, content, accept=kind) as response:
                await _check_begins(response, kind)
                chunks = response.aiter_stream()
                answer = EmbeddingsAnswer(chunks, request) if request.inputs else Answer(chunks, request)
                try:
                    yield answer
                finally:
                    await _leave(chunks, patience=_DRAIN_SECONDS if answer.ended else 0)
        except TRANSPORT_ERRORS as error:
            down = isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout)
            raise EngineError("engine_unavailable", type(error).__name__, down=down) from error

    async def get(self, path: str, **asked: str) -> dict[str, Any]:
        """A small JSON document of the engine (`/v1/models`, `/props`), `{}` where it has none.

        What is `asked` is posted: Ollama tells of a model in this way only. EngineError when the engine does not
        answer within DOCUMENT_SECONDS or is still loading (5xx).
        """
        status, body = await self._document(path, msgspec.json.encode(asked) if asked else None)
        return parsed(body) if httpx.codes.is_success(status) else {}

    async def models(self) -> dict[str, Any]:
        """`/v1/models`, which every engine has. EngineError says what the operator should look at."""
        status, body = await self._document(_MODELS, None)
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise failure_of_response(status, body)
        if not httpx.codes.is_success(status) or not (document := parsed(body)):
            said = f"answered {status} and no list of models at {self._url}{_MODELS}"
            raise EngineError("engine_unavailable", f"the engine {said}: {_ADDRESS_ADVICE}", status=status)
        return document

    async def _document(self, path: str, content: bytes | None) -> tuple[int, bytes]:
        try:
            with trio.fail_after(DOCUMENT_SECONDS):
                async with self._asked(path, content) as response:
                    body = await _bounded_body(response)
        except (*TRANSPORT_ERRORS, trio.TooSlowError) as error:
            raise EngineError("engine_unavailable", f"{path}: {type(error).__name__}", down=True) from error
        if httpx.codes.is_server_error(response.status):
            raise failure_of_response(response.status, body)
        return response.status, body

    def _asked(
        self, path: str, content: bytes | None, *, accept: str = "*/*"
    ) -> AbstractAsyncContextManager[httpcore.Response]:
        """The response to a POST of this JSON, or to a GET without any."""
        headers = [*self._headers, (b"accept", accept.encode())]
        if content is not None:
            headers.append((b"content-type", _JSON.encode()))
            headers.append((b"content-length", str(len(content)).encode()))
        method = "GET" if content is None else "POST"
        url = self._target(self._path + path.encode())
        return self._connections.stream(
            httpcore.Request(method, url, headers=headers, content=content, extensions=_EXTENSIONS)
        )

    def _target(self, path: bytes) -> httpcore.URL:
        url = self._url
        return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=path)


async def _check_begins(response: httpcore.Response, kind: str) -> None:
    kinds = [value for name, value in response.headers if name.lower() == b"content-type"]
    if response.status == httpx.codes.OK and kinds and kinds[0].startswith(kind.encode()):
        return
    raise failure_of_response(response.status, await _bounded_body(response))


async def _bounded_body(response: httpcore.Response) -> bytes:
    """The first MAX_DOCUMENT_BYTES of a body."""
    body, chunks = b"", response.aiter_stream()
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_DOCUMENT_BYTES:
            await _leave(chunks, patience=0)
    return body[:MAX_DOCUMENT_BYTES]


async def _leave(chunks: AsyncIterator[bytes], *, patience: float) -> None:
    """Read to the end of the body for `patience` seconds, so that the connection can be used again.

    Without patience the reading is cancelled at once, which unwinds httpcore's nested generators in good order.
    """
    with trio.move_on_after(patience), suppress(*TRANSPORT_ERRORS):
        async for _ in chunks:
            pass
