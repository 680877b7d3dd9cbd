"""Clients that speak another HTTP than 1.1, or would rather: those who offer HTTP/2, and those of HTTP/1.0.

Java's own client offers an upgrade to HTTP/2 with every request without TLS. A server may go on as if it had not
(RFC 9110, section 7.8); uvicorn's parser takes the connection for the other protocol's and drops the body.
A client of HTTP/1.0 knows no chunks (RFC 9112, section 6.1): what has no length ends with its connection.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

import httptools
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_OF_UPGRADES: Final = frozenset({b"upgrade", b"http2-settings"})
RawHeader = tuple[bytes, bytes]


class Head(Protocol):
    """What the parser's owner has kept of a request's head."""

    url: bytes
    headers: list[RawHeader]


class RequestParser(httptools.HttpRequestParser):
    """Reads a request whose offer of an upgrade is declined once more, as one without the offer.

    Its owner is called back for both, and has to pass over the first (`declines_upgrade`).
    """

    def __init__(self, owner: Head, takes_upgrade: Callable[[], bool]) -> None:
        """`takes_upgrade` is asked once the head is there."""
        self._owner, self._takes_upgrade = owner, takes_upgrade
        self._begin()

    def feed_data(self, data: Any) -> None:  # noqa: ANN401 - any bytes
        """The next bytes of the connection."""
        while True:
            try:
                super().feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if not self.declines_upgrade():
                    raise
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self._begin()
            else:
                return

    def declines_upgrade(self) -> bool:
        """Whether the request offers an upgrade that is not taken. CONNECT would be one however it is written."""
        return self.should_upgrade() and self.get_method() != b"CONNECT" and not self._takes_upgrade()

    def _begin(self) -> None:
        """Forget all that was read: after a head with `Connection: close` nothing else would be."""
        super().__init__(self._owner)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%s %s HTTP/%s" % (self.get_method(), self._owner.url, self.get_http_version().encode())]
        for name, value in self._owner.headers:
            if name == b"connection":
                lines.append(name + b": " + _without_upgrade(value))
            elif name not in _OF_UPGRADES:
                lines.append(name + b": " + value)
        return b"\r\n".join((*lines, b"", b""))


def without_chunks(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """The application, with answers whose length nobody knows sent as they are; the connection is closed after them."""

    async def asked(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        has_length = True

        async def send_plain(message: ASGISendEvent) -> None:
            nonlocal has_length
            if message["type"] == "http.response.start":
                has_length = any(name == b"content-length" for name, _ in message.get("headers", ()))
                if not has_length:
                    cycle.chunked_encoding = False
            elif message["type"] == "http.response.body" and not has_length:
                # uvicorn counts down to the length that was stated: each piece is told to it as the rest.
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_plain)

    return asked


def _without_upgrade(connection: bytes) -> bytes:
    tokens = (token.strip() for token in connection.split(b","))
    return b", ".join(token for token in tokens if token.lower() not in _OF_UPGRADES)
