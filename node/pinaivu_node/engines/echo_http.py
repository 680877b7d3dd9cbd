"""The little of HTTP that the echo engine needs, over ASGI."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
encode_json: Final = msgspec.json.Encoder().encode


async def read_body(receive: Receive) -> bytes:
    """The whole body of a request."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def send_json(send: Send, status: int, value: object) -> None:
    """A whole response."""
    raw = encode_json(value)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send_body(send, raw, more=False)


async def begin_json(send: Send) -> None:
    """The head of a response that will never be whole."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def send_error(send: Send, status: int, text: str) -> None:
    """A refusal in OpenAI's envelope."""
    error = {"message": text, "type": "echo_error", "param": None, "code": status}
    await send_json(send, status, {"error": error})


async def begin_events(send: Send) -> None:
    """The head of a response that is a stream of events."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})


async def send_body(send: Send, raw: bytes, *, more: bool = True) -> None:
    """A piece of a response, the last one unless there is `more`."""
    await send({"type": "http.response.body", "body": raw, "more_body": more})
