"""An HTTP engine that says exactly what a test wrote down, and remembers what it was asked and when it was left."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio


class ScriptedEngine:
    """Answers each request with the next script: the raw bytes of a response, sent part by part.

    `asked`, `left` and `told` are set when a request came, its client left, and a script was sent to its end.
    After the parts the connection is closed, or held open until the client leaves when the script ends in `HOLD`.
    """

    HOLD = b""

    def __init__(self, *scripts: Sequence[bytes]) -> None:
        self._scripts = list(scripts)
        self.requests: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.asked, self.left, self.told = trio.Event(), trio.Event(), trio.Event()
        self.address = ""

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            await self._read_request(stream)
            for part in self._script():
                if part == self.HOLD:
                    await _wait_for_end(stream)
                    self.left.set()
                    return
                await stream.send_all(part)
            self.told.set()

    def _script(self) -> Sequence[bytes]:
        return self._scripts.pop(0)

    async def _read_request(self, stream: trio.SocketStream) -> None:
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += await stream.receive_some()
        head, _, body = raw.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
        while len(body) < int(lengths[0] if lengths else 0):
            body += await stream.receive_some()
        self.heads.append(head.decode())
        self.requests.append(json.loads(body) if body else {})
        self.asked.set()


async def _wait_for_end(stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass


class RoutedEngine(ScriptedEngine):
    """Answers by path, as often as it is asked: with a script, or one made for the request; with 404 elsewhere."""

    def __init__(self, routes: Mapping[str, "Route"]) -> None:
        super().__init__()
        self._routes = routes

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [head.split(" ")[1] for head in self.heads]

    def _script(self) -> Sequence[bytes]:
        route = self._routes.get(self.paths()[-1], refused("404 Not Found", {"error": "no such path"}))
        return route(self.requests[-1]) if callable(route) else route


Route = Sequence[bytes] | Callable[[dict[str, Any]], Sequence[bytes]]


@asynccontextmanager
async def serving(*scripts: Sequence[bytes]) -> AsyncIterator[ScriptedEngine]:
    async with _serving(ScriptedEngine(*scripts)) as engine:
        yield engine


@asynccontextmanager
async def routing(routes: Mapping[str, Route]) -> AsyncIterator[RoutedEngine]:
    engine = RoutedEngine(routes)
    async with _serving(engine):
        yield engine


@asynccontextmanager
async def _serving(engine: ScriptedEngine) -> AsyncIterator[ScriptedEngine]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        engine.address = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, engine.serve, listeners)
        yield engine
        nursery.cancel_scope.cancel()


def streamed(*events: object, done: bool = True) -> list[bytes]:
    """A whole event stream; strings and bytes go as they are, everything else as JSON."""
    return [head("200 OK", "text/event-stream") + b"".join(map(event, events)) + (b"data: [DONE]\n\n" if done else b"")]


def event(content: object) -> bytes:
    if isinstance(content, bytes):
        return content
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def told(content: object) -> list[bytes]:
    """A response that is one JSON document."""
    return refused("200 OK", content)


def chunk(content: str | None = None, finish: str | None = None, **more: object) -> dict[str, Any]:
    """A chunk with this content and finish_reason; `delta` and `choice` add to these parts, the rest to the chunk."""
    delta = ({} if content is None else {"content": content}) | more.pop("delta", {})  # type: ignore[operator] # a dict
    choice = {"index": 0, "delta": delta, "finish_reason": finish} | more.pop("choice", {})  # type: ignore[operator] # a dict
    return {"id": "x", "object": "chat.completion.chunk", "choices": [choice], **more}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}}


def refused(status: str, body: object) -> list[bytes]:
    """A response that is no stream."""
    raw = json.dumps(body).encode()
    return [head(status, "application/json", len(raw)) + raw]


def head(status: str, kind: str, length: int | None = None) -> bytes:
    size = "" if length is None else f"content-length: {length}\r\n"
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{size}connection: close\r\n\r\n".encode()
