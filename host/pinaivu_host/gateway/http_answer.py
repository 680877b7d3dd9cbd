"""Whole HTTP answers as ASGI messages."""

from collections.abc import Iterable
from typing import Final

from starlette.types import Send

from pinaivu_host.gateway.errors import ApiError

JSON: Final = "application/json"
NO_STORE: Final = ("cache-control", "no-store")
"""The header of answers that are for their caller alone, or soon old."""
WRITE_BYTES: Final = 32 * 1024
"""The server waits before it writes, and takes whatever is written: no more than this is handed to it at once."""
Headers = Iterable[tuple[str, str]]


async def send_json(send: Send, body: bytes, *, request_id: str, status: int = 200, headers: Headers = ()) -> None:
    """One complete JSON response."""
    await send(response_start(status, JSON, request_id=request_id, headers=headers, size_bytes=len(body)))
    await send({"type": "http.response.body", "body": body})


async def send_body(send: Send, body: bytes, *, more: bool = False) -> None:
    """The body of a response, or a part of one with `more`, piece by piece as its reader takes it."""
    rest = memoryview(body)
    while len(rest) > WRITE_BYTES:
        await send({"type": "http.response.body", "body": bytes(rest[:WRITE_BYTES]), "more_body": True})
        rest = rest[WRITE_BYTES:]
    await send({"type": "http.response.body", "body": bytes(rest), "more_body": more})


async def send_error(send: Send, error: ApiError, *, request_id: str, headers: Headers = ()) -> None:
    """One complete error response."""
    extra = (*error.headers, *headers)
    await send_json(send, error.body(request_id), request_id=request_id, status=error.kind.status, headers=extra)


def response_start(
    status: int, content_type: str, *, request_id: str, headers: Headers = (), size_bytes: int | None = None
) -> dict[str, object]:
    """The ASGI message with status line and headers."""
    encoded = [
        (b"content-type", content_type.encode()),
        (b"x-request-id", request_id.encode()),
        *((name.encode(), value.encode()) for name, value in headers),
    ]
    if size_bytes is not None:
        encoded.append((b"content-length", str(size_bytes).encode()))
    return {"type": "http.response.start", "status": status, "headers": encoded}
