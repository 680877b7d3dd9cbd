"""Cross-origin requests of browser applications (https://fetch.spec.whatwg.org/#http-cors-protocol), for `/v1/` only.

There are no cookies here, so credentials mode stays off: a page must have an API key to send. Off unless origins are
named. Starlette's middleware does not fit: it answers preflights with 200 and knows no prefixes of header names.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Scope, Send

from pinaivu_shared.errors import CallerError

ANY: Final = "*"
METHODS: Final = "GET, HEAD, POST"
MAX_AGE_S: Final = 600
ALLOWED: Final = frozenset(
    {
        "authorization",
        "content-type",
        "idempotency-key",
        "openai-organization",
        "openai-project",
        "user-agent",
        "x-client-request-id",
    }
)
ALLOWED_PREFIX: Final = "x-stainless-"
EXPOSED: Final = ", ".join(
    (
        "idempotent-replayed",
        "retry-after",
        "x-pinaivu-salt",
        "x-request-id",
        "x-should-retry",
        *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
    )
)
_ORIGIN: Final = "origin"
_WANTED_METHOD: Final = "access-control-request-method"
_WANTED_HEADERS: Final = "access-control-request-headers"


class Cors:
    """Which pages may read answers: those of these origins, of any (`*`), or none."""

    def __init__(self, origins: tuple[str, ...] = ()) -> None:
        self._origins = frozenset(origins)

    def is_preflight(self, scope: Scope) -> bool:
        """Whether a browser asks if a page may ask; no key comes with it. Never where this is off."""
        headers = Headers(scope=scope)
        return (
            self._applies(scope) and scope["method"] == "OPTIONS" and _ORIGIN in headers and _WANTED_METHOD in headers
        )

    def wrap(self, scope: Scope, send: Send) -> Send:
        """`send`, with the headers of this protocol on every answer, so on errors too."""
        if not self._applies(scope):
            return send
        added = self._added(Headers(scope=scope).get(_ORIGIN, ""))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(added)
                headers.add_vary_header("Origin")  # a cache must not keep this answer for a page that may read it
            await send(message)

        return send_with_headers

    async def answer_preflight(self, scope: Scope, send: Send) -> None:
        """204 with what is allowed. `send` is a wrapped one: the origin is its matter."""
        headers = [
            (b"access-control-allow-methods", METHODS.encode()),
            (b"access-control-allow-headers", _allowed(Headers(scope=scope).get(_WANTED_HEADERS, "")).encode()),
            (b"access-control-max-age", str(MAX_AGE_S).encode()),
            (b"x-request-id", scope["state"]["request_id"].encode()),
        ]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _applies(self, scope: Scope) -> bool:
        path: str = scope["path"]
        return bool(self._origins) and path.startswith("/v1/")

    def _added(self, origin: str) -> Mapping[str, str]:
        allowed = ANY if ANY in self._origins else origin
        if allowed not in self._origins:
            return {}
        return {"access-control-allow-origin": allowed, "access-control-expose-headers": EXPOSED}


def parse_origins(text: str) -> tuple[str, ...]:
    """Origins between commas, or `*` alone; CallerError for what no browser sends as an origin."""
    if text in {"", ANY}:
        return (text,) if text else ()
    return tuple(_origin(item.strip()) for item in text.split(","))


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc or text != f"{parts.scheme}://{parts.netloc.lower()}":
        raise CallerError(f"--cors-origins: {text[:100]!r} is no origin such as https://app.example.com, nor * alone")
    return text


def _allowed(wanted: str) -> str:
    names = [name.strip().lower() for name in wanted.split(",")]
    return ", ".join(name for name in names if name in ALLOWED or _is_sdk_header(name))


def _is_sdk_header(name: str) -> bool:
    return name.startswith(ALLOWED_PREFIX) and name.replace("-", "").isalnum() and name.isascii()
