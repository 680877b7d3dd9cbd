"""The echo engine: a deterministic OpenAI-protocol server for tests and load, as a bare ASGI application.

It answers with the last user message, piece by piece (a piece is a word with the space after it), or with a fixed
number of words; its settings set delays and faults. `prompt_tokens` is the number of words of all messages,
`completion_tokens` the number of pieces. With vLLM's `continuous_usage_stats` the first event has the prompt's count.
`/health` tells how many answers are running.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, NamedTuple

import msgspec

from pinaivu_node.engines.echo_settings import EchoSettings, Fault

MODEL: Final = "echo"
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_PIECE: Final = re.compile(r"\s*\S+\s*|\s+")
_PIECES_PER_SEND: Final = 64
_NO_FAULT: Final = Fault()
_CONTEXT: Final = 131_072
_MODEL_ENTRY: Final = {"id": MODEL, "object": "model", "created": 0, "owned_by": "pinaivu", "max_model_len": _CONTEXT}
_DONE: Final = b"data: [DONE]\n\n"
_EVENT_HEAD: Final = (
    b'data: {"id":"chatcmpl-echo","object":"chat.completion.chunk","created":0,"model":"echo","choices":['
)
_PIECE_HEAD: Final = _EVENT_HEAD + b'{"index":0,"delta":{"content":'
_PIECE_TAIL: Final = b'},"logprobs":null,"finish_reason":null}]}\n\n'
_ROLE_HEAD: Final = _EVENT_HEAD + b'{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]'
_ERROR: Final = b'data: {"error":{"message":"echo was told to fail","type":"server_error","param":null,"code":500}}\n\n'
_encode: Final = msgspec.json.Encoder().encode


class _Body(msgspec.Struct):
    messages: list[Any]
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_decode: Final = msgspec.json.Decoder(_Body).decode


class _Answer(NamedTuple):
    """What one request is answered with: pieces, why they end, and the usage reported at its beginning and end."""

    pieces: list[str]
    finish_reason: str
    first_usage: dict[str, int] | None
    usage: dict[str, int] | None
    fault: Fault


class Echo:
    """The ASGI application."""

    def __init__(self, settings: EchoSettings) -> None:
        self._settings = settings
        self._words = [f"word{number} " for number in range(settings.tokens)]
        self._running = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        match scope["type"], scope.get("method"), scope.get("path"):
            case "http", "GET", "/health":
                await _send_json(send, 200, {"status": "ok", "running": self._running})
            case "http", "GET", "/v1/models":
                await _send_json(send, 200, {"object": "list", "data": [_MODEL_ENTRY]})
            case "http", "POST", "/v1/chat/completions":
                await self._complete(receive, send)
            case "http", _, _:
                await _send_json(send, 404, _error("no such path", 404))
            case _:
                raise NotImplementedError(f"{scope['type']} is not served")

    async def _complete(self, receive: Receive, send: Send) -> None:
        try:
            body = _decode(await _read_body(receive))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            await _send_json(send, 400, _error(str(error), 400))
            return
        answer = self._answer(body)
        if answer.fault.kind == "refuse":
            await _send_json(send, 503, _error("echo was told to refuse", 503))
            return
        self._running += 1
        try:
            await self._until_disconnected(self._deliver(body, answer, send), receive)
        finally:
            self._running -= 1

    async def _deliver(self, body: _Body, answer: _Answer, send: Send) -> None:
        if body.stream:
            await self._stream(answer, send)
        else:
            await asyncio.sleep(self._settings.first_token_ms / 1000)
            await _send_json(send, 200, _completion(answer))

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

    def _answer(self, body: _Body) -> _Answer:
        limits = [limit for limit in (body.max_tokens, body.max_completion_tokens) if limit is not None]
        limit = max(min(limits), 0) if limits else None
        fault = _NO_FAULT if limit == 1 else self._settings.fault
        whole = self._words or _PIECE.findall(_last_user_text(body.messages))
        pieces = whole[:limit]
        reason = "stop" if len(pieces) == len(whole) else "length"
        options = body.stream_options or {}
        prompt_tokens = sum(len(_text(message).split()) for message in body.messages)
        first = _usage(prompt_tokens, 0, fault) if options.get("continuous_usage_stats") is True else None
        wanted = not body.stream or options.get("include_usage") is True
        return _Answer(pieces, reason, first, _usage(prompt_tokens, len(pieces), fault) if wanted else None, fault)

    async def _stream(self, answer: _Answer, send: Send) -> None:
        kind, last = answer.fault.kind, answer.fault.after_tokens
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await asyncio.sleep(self._settings.first_token_ms / 1000)
        if kind == "disconnect_before_first_token":
            return  # the server closes a connection whose response was left unfinished
        if kind == "hang_before_first_token":
            await asyncio.Event().wait()
        ends_early = kind in {"disconnect_after_tokens", "error_after_tokens", "hang_after_tokens"}
        await self._send_pieces(answer, answer.pieces[:last] if ends_early else answer.pieces, send)
        if kind == "disconnect_after_tokens":
            return
        if kind == "hang_after_tokens":
            await asyncio.Event().wait()
        await _send_body(send, (_ERROR + _DONE) if kind == "error_after_tokens" else _ending(answer), more=False)

    async def _send_pieces(self, answer: _Answer, pieces: list[str], send: Send) -> None:
        cut, role = answer.fault.kind == "split_utf8", _role(answer.first_usage)
        events = _cut_events(pieces) if cut else [_event(_encode(piece)) for piece in pieces]
        interval = self._settings.token_interval_ms / 1000
        if cut:
            stream = role + b"".join(events)
            for start in range(0, len(stream), 7):
                await _send_body(send, stream[start : start + 7])
        elif not interval:
            for start in range(0, len(events) or 1, _PIECES_PER_SEND):
                head = b"" if start else role
                await _send_body(send, head + b"".join(events[start : start + _PIECES_PER_SEND]))
        else:
            await _send_body(send, role + b"".join(events[:1]))
            for event in events[1:]:
                await asyncio.sleep(interval)
                await _send_body(send, event)


def _role(usage: dict[str, int] | None) -> bytes:
    return _ROLE_HEAD + (b',"usage":' + _encode(usage) if usage else b"") + b"}\n\n"


def _event(content: bytes) -> bytes:
    return _PIECE_HEAD + content + _PIECE_TAIL


def _cut_events(pieces: list[str]) -> list[bytes]:
    """Events that are cut inside characters: each holds half the bytes of a piece, which is not JSON by the letter."""
    events = []
    for piece in pieces:
        raw = json.dumps(piece, ensure_ascii=False).encode()[1:-1]
        places = [place for place in range(1, len(raw)) if raw[place] & 0xC0 == 0x80]
        cut = places[0] if places else len(raw)
        events += [_event(b'"' + half + b'"') for half in (raw[:cut], raw[cut:]) if half]
    return events


def _ending(answer: _Answer) -> bytes:
    finish = b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"' + answer.finish_reason.encode() + b'"}]}\n\n'
    usage = _EVENT_HEAD + b'],"usage":' + _encode(answer.usage) + b"}\n\n" if answer.usage else b""
    return _EVENT_HEAD + finish + usage + _DONE


def _usage(prompt_tokens: int, completion_tokens: int, fault: Fault) -> dict[str, int] | None:
    if fault.kind == "no_usage":
        return None
    if fault.kind == "zero_usage":
        prompt_tokens = completion_tokens = 0
    if fault.kind == "inflated_usage":
        prompt_tokens, completion_tokens = prompt_tokens * 10 + 1000, completion_tokens * 10 + 1000
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def _completion(answer: _Answer) -> dict[str, Any]:
    message = {"role": "assistant", "content": "".join(answer.pieces), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    found = {"id": "chatcmpl-echo", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice]}
    return found | ({"usage": answer.usage} if answer.usage else {})


def _last_user_text(messages: list[Any]) -> str:
    users = [message for message in messages if isinstance(message, dict) and message.get("role") == "user"]
    return _text(users[-1]) if users else ""


def _text(message: object) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _error(text: str, status: int) -> dict[str, Any]:
    return {"error": {"message": text, "type": "echo_error", "param": None, "code": status}}


async def _read_body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send_json(send: Send, status: int, value: object) -> None:
    raw = _encode(value)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await _send_body(send, raw, more=False)


async def _send_body(send: Send, raw: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": raw, "more_body": more})
