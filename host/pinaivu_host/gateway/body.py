"""Reading a request body: bounded in bytes and in time, JSON by content type, JSON by content."""

import asyncio
from typing import Any, Final

from starlette.types import Receive, Scope

from pinaivu_host.gateway.error_table import INVALID_JSON, REQUEST_TIMEOUT, REQUEST_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE
from pinaivu_host.gateway.errors import ApiError, Detail
from pinaivu_shared.canonical import parse_json

BODY_LIMIT_S: Final = 30.0


class CallerGoneError(Exception):
    """The caller left before the whole body was there; nobody is left to answer."""


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int) -> bytes:
    """The whole body of what may be JSON; ApiError (408, 413, 415) or CallerGoneError."""
    coding = (header(scope, b"content-encoding") or "identity").strip().lower()
    if coding != "identity":
        message = f"content encoding {coding[:100]!r} is not taken: send the body as it is, without compression"
        raise ApiError(UNSUPPORTED_MEDIA_TYPE, message, headers=(("accept-encoding", "identity"),))
    media_type = _media_type(scope)
    if not _may_be_json(media_type):
        hint = "with curl, send -H 'Content-Type: application/json'"
        raise ApiError(UNSUPPORTED_MEDIA_TYPE, f"content type {media_type[:100]!r} is not application/json; {hint}")
    raw = await read_bytes(scope, receive, max_bytes)
    if media_type == "text/plain" and not raw.lstrip().startswith(b"{"):
        raise ApiError(UNSUPPORTED_MEDIA_TYPE, "text/plain is accepted only where it holds a JSON object")
    return raw


async def read_bytes(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """The whole body, whatever it is; ApiError (408, 413) or CallerGoneError."""
    announced = header(scope, b"content-length") or ""
    if announced.isdecimal() and len(announced) < 20 and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(BODY_LIMIT_S):
            return await _collect(receive, max_bytes)
    except TimeoutError:
        raise ApiError(REQUEST_TIMEOUT, f"the body did not arrive within {BODY_LIMIT_S:.0f} s") from None


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in a body, such as RFC 8785 can express; ApiError(invalid_json) for anything else."""
    try:
        value = parse_json(raw)
    except RecursionError:
        raise _not_json("nested too deeply") from None
    except UnicodeError:
        raise _not_json("not valid UTF-8, or half of a surrogate pair") from None
    except ValueError as error:
        raise _not_json(str(error)) from None
    if not isinstance(value, dict):
        raise _not_json("must be a JSON object")
    return value


def header(scope: Scope, name: bytes) -> str | None:
    """The first value of a header, by its lowercase name."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


def _not_json(reason: str) -> ApiError:
    return ApiError(
        INVALID_JSON, f"the request body cannot be read: {reason}", detail=(Detail(("body",), reason, "json_invalid"),)
    )


def _media_type(scope: Scope) -> str:
    return (header(scope, b"content-type") or "").split(";")[0].strip().lower()


def _may_be_json(media_type: str) -> bool:
    """Curl users often send no type or text/plain; forms and everything else binary are refused."""
    return media_type in {"", "application/json", "text/json", "text/plain"} or media_type.endswith("+json")


async def _collect(receive: Receive, max_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size_bytes = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGoneError
        piece = message.get("body", b"")
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise _too_large(max_bytes)
        pieces.append(piece)
        more = message.get("more_body", False)
    return b"".join(pieces)


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(REQUEST_TOO_LARGE, f"the request body is larger than {max_bytes} bytes")
