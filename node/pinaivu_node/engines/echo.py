"""The echo engine: a deterministic OpenAI-protocol server for tests and load, as a bare ASGI application.

It answers with the last user message or the prompt, piece by piece, or with a fixed number of words, up to a stop
sequence; with a call of a function that must be called, its arguments the least that it takes; with the least that a
wanted JSON format takes; with embeddings made of digests. Its settings set delays and faults. Prompt tokens are words,
completion tokens pieces. With vLLM's `continuous_usage_stats` the first event has the prompt's count. `/health` tells
how many answers are running.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec

from pinaivu_node.engines.echo_answer import NO_FAULT, ChatBody, CompletionBody, EchoAnswer, echo_answer
from pinaivu_node.engines.echo_embeddings import EmbeddingBody, embeddings
from pinaivu_node.engines.echo_events import CHAT, COMPLETION, FAILED, MODEL, Dialect
from pinaivu_node.engines.echo_http import (
    Message,
    Receive,
    Send,
    begin_events,
    begin_json,
    read_body,
    send_body,
    send_error,
    send_json,
)
from pinaivu_node.engines.echo_settings import EchoSettings, Fault

_PIECES_PER_SEND: Final = 64
_CONTEXT: Final = 131_072
_MODEL_ENTRY: Final = {"id": MODEL, "object": "model", "created": 0, "owned_by": "pinaivu", "max_model_len": _CONTEXT}
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_chat: Final = msgspec.json.Decoder(ChatBody).decode
_completion: Final = msgspec.json.Decoder(CompletionBody).decode
_embedding: Final = msgspec.json.Decoder(EmbeddingBody).decode


class Echo:
    """The ASGI application."""

    def __init__(self, settings: EchoSettings) -> None:
        self._settings = settings
        self._words = [f"word{number} " for number in range(settings.tokens)]
        self._running = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        if scope["type"] != "http":
            raise NotImplementedError(f"{scope['type']} is not served")
        match scope["method"], scope["path"]:
            case "GET", "/health":
                await send_json(send, 200, {"status": "ok", "running": self._running})
            case "GET", "/v1/models":
                await send_json(send, 200, {"object": "list", "data": [_MODEL_ENTRY]})
            case "POST", ("/v1/chat/completions" | "/v1/completions" | "/v1/embeddings") as path:
                await self._work(path, receive, send)
            case _:
                await send_error(send, 404, "no such path")

    async def _work(self, path: str, receive: Receive, send: Send) -> None:
        raw = await read_body(receive)
        try:
            fault, deliver = self._prepared(path, raw, send)
        except _UNREADABLE as error:
            await send_error(send, 400, str(error))
            return
        if fault.kind == "refuse":
            await send_error(send, 503, "echo was told to refuse")
            return
        self._running += 1
        try:
            await self._until_disconnected(deliver(), receive)
        finally:
            self._running -= 1

    def _prepared(self, path: str, raw: bytes, send: Send) -> tuple[Fault, Callable[[], Awaitable[None]]]:
        """The fault that this request meets, and what delivers its answer; an error of `_UNREADABLE` for no request."""
        if path == "/v1/embeddings":
            wanted = _embedding(raw)
            fault = self._settings.fault if wanted.tokens() > 1 else NO_FAULT
            return fault, partial(self._deliver_whole, embeddings(wanted, MODEL, fault), fault, send)
        is_chat = path == "/v1/chat/completions"
        body, dialect = (_chat(raw), CHAT) if is_chat else (_completion(raw), COMPLETION)
        answer = echo_answer(body, self._words, self._settings.fault)
        if body.stream:
            return answer.fault, partial(self._stream, dialect, answer, send)
        return answer.fault, partial(self._deliver_whole, dialect.whole(answer), answer.fault, send)

    async def _deliver_whole(self, answer: object, fault: Fault, send: Send) -> None:
        await asyncio.sleep(self._settings.first_token_ms / 1000)
        if fault.kind.startswith("hang"):
            await asyncio.Event().wait()
        if fault.kind.startswith("disconnect"):
            await begin_json(send)
        elif fault.kind == "error_after_tokens":
            await send_error(send, 500, "echo was told to fail")
        else:
            await send_json(send, 200, answer)

    async def _until_disconnected(self, work: Awaitable[None], receive: Receive) -> None:
        """Stop working when the client goes. An answer that never waits needs no watching."""
        settings = self._settings
        if not (settings.first_token_ms or settings.token_interval_ms or settings.fault.kind.startswith("hang")):
            await work
            return
        answering, watching = asyncio.ensure_future(work), asyncio.ensure_future(receive())
        try:
            await asyncio.wait((answering, watching), return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
            if not answering.done():
                answering.cancel()
        if answering.done():
            answering.result()

    async def _stream(self, dialect: Dialect, answer: EchoAnswer, send: Send) -> None:
        kind, last = answer.fault.kind, answer.fault.after_tokens
        await begin_events(send)
        await asyncio.sleep(self._settings.first_token_ms / 1000)
        if kind == "disconnect_before_first_token":
            return  # the server closes a connection whose response was left unfinished
        if kind == "hang_before_first_token":
            await asyncio.Event().wait()
        beginning = dialect.beginning(answer)
        if kind == "split_utf8":
            await _send_cut(beginning + b"".join(dialect.cut_pieces(answer)), send)
        else:
            ends_early = kind in {"disconnect_after_tokens", "error_after_tokens", "hang_after_tokens"}
            await self._send_pieces(beginning, dialect.pieces(answer, last if ends_early else None), send)
        if kind == "disconnect_after_tokens":
            return
        if kind == "hang_after_tokens":
            await asyncio.Event().wait()
        await send_body(send, FAILED if kind == "error_after_tokens" else dialect.ending(answer), more=False)

    async def _send_pieces(self, beginning: bytes, events: list[bytes], send: Send) -> None:
        interval = self._settings.token_interval_ms / 1000
        if not interval:
            for start in range(0, len(events) or 1, _PIECES_PER_SEND):
                head = b"" if start else beginning
                await send_body(send, head + b"".join(events[start : start + _PIECES_PER_SEND]))
            return
        await send_body(send, beginning + b"".join(events[:1]))
        for event in events[1:]:
            await asyncio.sleep(interval)
            await send_body(send, event)


async def _send_cut(stream: bytes, send: Send) -> None:
    for start in range(0, len(stream), 7):
        await send_body(send, stream[start : start + 7])
