"""The HTTP protocol under the gateway: uvicorn's, with bounds on what a connection may cost before it asks anything.

Uvicorn waits for ever for the head of a first request, and for one of which a byte has come; it takes heads of any size
and any number of connections.
"""

import asyncio
import socket
import sys
from typing import Any, Final

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from pinaivu_host.gateway.error_table import HEAD_TOO_LARGE, INVALID_REQUEST, TOO_MANY_CONNECTIONS
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.http_answer import JSON
from pinaivu_host.gateway.order import new_request_id
from pinaivu_host.http_versions import RequestParser, without_chunks

HEAD_BYTES_MAX: Final = 64 * 1024
WRITE_BUFFER_BYTES: Final = 64 * 1024
"""What asyncio has without TLS. With TLS it would be eight times as much, all of it counted as delivered.

So is what lies unsent in the system, which takes megabytes at a time unless it is told otherwise: so it is, on Linux.
"""


class BoundedHttp(HttpToolsProtocol):
    """`connections_max` and `head_s` are set by a subclass: uvicorn makes one object for each connection.

    WebSockets count among the connections too. A head that is late ends its connection without an answer, since a
    client that has not asked would take one for the answer to what it asks next.
    """

    connections_max: int
    head_s: float

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*arguments, **named)
        self.parser: RequestParser = RequestParser(self, self._should_upgrade)
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """From the transport, after the TLS handshake."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        _bound_unsent(transport.get_extra_info("socket"))
        if len(self.connections) > self.connections_max:
            self._refuse(ApiError(TOO_MANY_CONNECTIONS, "this gateway has too many open connections, try again"))
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """From the transport."""
        self._forget_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """From the transport."""
        self._head_bytes += len(data)
        super().data_received(data)
        if not self._awaits_head():
            self._head_bytes = 0
        elif self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(ApiError(HEAD_TOO_LARGE, f"the head of a request may have {HEAD_BYTES_MAX} bytes"))
        elif self._deadline is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """From the parser: the head is there."""
        if self.parser.declines_upgrade():
            return
        self._forget_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """From the parser: so is the body. If the answer came before it, the connection is idle only now."""
        if self.parser.declines_upgrade():
            return
        super().on_message_complete()
        if self._awaits_head():
            self._forget_head()
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self._end)

    def handle_websocket_upgrade(self) -> None:
        """From the parser: the connection is another protocol's from here on, and no longer idle by HTTP's measure."""
        self._unset_keepalive_if_required()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """From the parser: what came is no request."""
        told = f"{msg} Send HTTP/1.1, without TLS unless the address begins with https."
        self._refuse(ApiError(INVALID_REQUEST, told, headers=(("connection", "close"),)))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """From uvicorn: a request's turn has come."""
        if cycle.scope["http_version"] == "1.0":
            app = without_chunks(app, cycle)
        super()._start_asgi_task(cycle, app)

    def _awaits_head(self) -> bool:
        """Whether bytes are owed, with no timer of uvicorn's for them: not while idle, answering, closing, upgraded."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn declares it as one that is always there
        answering = cycle is not None and not cycle.response_complete
        closing = self not in self.connections or self.transport.is_closing()
        return not (answering or closing or self.timeout_keep_alive_task)

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_s, self._end)

    def _forget_head(self) -> None:
        self._head_bytes = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        """Answer without a request, in the same shape as all errors."""
        request_id = new_request_id()
        body = error.body(request_id)
        headers = (
            ("content-type", JSON),
            ("x-request-id", request_id),
            *error.headers,
            ("content-length", str(len(body))),
        )
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[error.kind.status] + head.encode() + b"\r\n" + body)
        self.transport.close()


def _bound_unsent(connection: socket.socket) -> None:
    """Have the system take WRITE_BUFFER_BYTES that it cannot send yet, and what is on its way."""
    if sys.platform == "linux" and connection.family in {socket.AF_INET, socket.AF_INET6}:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, WRITE_BUFFER_BYTES)
