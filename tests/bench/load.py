"""The load generator, a process of its own: HTTP/1.1 over raw sockets, so that little of what is measured is its own.

    python -m tests.bench.load < load.json

takes a `Load` and prints a `Measured`. Closed loop: each connection sends its next request when the last was answered.
"""

import asyncio
import itertools
import os
import sys
import time
from typing import Any, cast

import httptools
import msgspec
import uvloop

PIECE = b"word"
"""Every piece of the echo engine's answer with `tokens=N` begins with this, and nothing else has it."""
WRONG_KEYS = "wrong"
"""In place of an API key: a new one of the right form with every request."""


class Load(msgspec.Struct, kw_only=True):
    """POST `body` to http://127.0.0.1:`port``path` over `connections` connections for `seconds`."""

    port: int
    path: str
    api_key: str
    body: dict[str, Any]
    connections: int
    seconds: float
    expected_status: int = 200


class Measured(msgspec.Struct, kw_only=True):
    """What was answered in `seconds`, which end with the last answer; latencies, in seconds, to end and first piece."""

    seconds: float = 0.0
    latencies: list[float] = []
    first_pieces: list[float] = []
    pieces: int = 0

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds


class Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: Load, body: bytes, measured: Measured, until: float) -> None:
        self._load, self._body, self._measured, self._until = load, body, measured, until
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport
        self._parser: Any
        self._began = 0.0
        self._first: float | None = None
        self._received: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(exc or ConnectionError("the server closed the connection"))

    def on_body(self, body: bytes) -> None:
        """From the parser."""
        if self._first is None and PIECE in body:
            self._first = time.perf_counter() - self._began
        self._received.append(body)

    def on_message_complete(self) -> None:
        """From the parser."""
        now, load = time.perf_counter(), self._load
        received = b"".join(self._received)
        if self._parser.get_status_code() != load.expected_status:
            self._fail(f"status {self._parser.get_status_code()}: {received[:300]!r}")
        elif load.expected_status == 200 and self._first is None:
            self._fail(f"no piece in an answer: {received[:300]!r}")
        else:
            self._note(now, received)

    def _note(self, now: float, received: bytes) -> None:
        """Answers that come late count as well, and so does their time: dropping them would flatter whoever is slow."""
        measured = self._measured
        measured.latencies.append(now - self._began)
        if self._first is not None:
            measured.first_pieces.append(self._first)
        measured.pieces += received.count(PIECE)
        if now >= self._until:
            self.ended.set_result(None)
        else:
            self._ask()

    def _ask(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._first, self._received = None, []
        load = self._load
        key = f"sk-pnv-{next(_NUMBERS):048d}" if load.api_key == WRONG_KEYS else load.api_key
        head = (
            f"POST {load.path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(self._body)}\r\n\r\n"
        )
        self._began = time.perf_counter()
        self._transport.write(head.encode() + self._body)

    def _fail(self, what: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(AssertionError(what))
        self._transport.abort()


_NUMBERS = itertools.count(time.time_ns())


async def run_load(load: Load) -> Measured:
    """Every connection until the time is over; an answer that is not as it should be ends it with an error."""
    measured = Measured(latencies=[], first_pieces=[])
    body = msgspec.json.encode(load.body)
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_end_at_once)
    callers = [
        (
            await loop.create_connection(
                lambda: Caller(load, body, measured, began + load.seconds), "127.0.0.1", load.port
            )
        )[1]
        for _ in range(load.connections)
    ]
    await asyncio.gather(*(caller.ended for caller in callers))
    measured.seconds = time.perf_counter() - began
    return measured


def _end_at_once(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A mistake of the generator's own, which would otherwise leave a connection that nobody serves."""
    loop.default_exception_handler(context)
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    found = uvloop.run(run_load(asked))
    sys.stdout.buffer.write(msgspec.json.encode(found))
