"""Connections to an engine: kept, used again, and asked for anew when the engine has closed one that was kept."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpcore
import pytest
import trio

from pinaivu_node.engines.connections import Connections

pytestmark = pytest.mark.trio
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """Answers so many requests of each connection in turn, and hangs up at the next."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []
        self.url = httpcore.URL()

    async def serve(self, stream: trio.SocketStream) -> None:
        number, left = len(self.asked), self.answers.pop(0)
        self.asked.append(0)
        async with stream:
            while await stream.receive_some():
                self.asked[number] += 1
                if self.asked[number] > left:
                    return
                await stream.send_all(ANSWER)


@asynccontextmanager
async def serving(*answers: int, limit: int = 8) -> AsyncIterator[tuple[Server, Connections]]:
    server = Server(*answers)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        server.url = httpcore.URL(scheme="http", host="127.0.0.1", port=port, target="/")
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        connections = Connections(server.url.origin, tls=None, limit=limit)
        yield server, connections
        await connections.aclose()
        nursery.cancel_scope.cancel()


async def ask(server: Server, connections: Connections) -> bytes:
    request = httpcore.Request("GET", server.url, headers=[("host", "x")])
    async with connections.stream(request) as response:
        return await response.aread()


async def test_a_connection_is_used_again() -> None:
    async with serving(3) as (server, connections):
        assert [await ask(server, connections) for _ in range(3)] == [b"ok"] * 3
        assert server.asked == [3]


async def test_what_a_kept_connection_does_not_answer_is_asked_again_on_a_new_one() -> None:
    async with serving(1, 1) as (server, connections):
        assert [await ask(server, connections) for _ in range(2)] == [b"ok"] * 2
        assert server.asked == [2, 1]


async def test_what_a_new_connection_does_not_answer_is_a_failure_at_once() -> None:
    async with serving(0, 1) as (server, connections):
        with pytest.raises(httpcore.RemoteProtocolError):
            await ask(server, connections)
        assert server.asked == [1]


async def test_who_comes_beyond_the_limit_waits_for_a_connection() -> None:
    async with serving(100, limit=1) as (server, connections), trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask, server, connections)
    assert server.asked == [10]


async def test_an_answer_that_is_left_before_its_end_closes_its_connection() -> None:
    async with serving(1, 1) as (server, connections):
        request = httpcore.Request("GET", server.url, headers=[("host", "x")])
        async with connections.stream(request):
            pass
        assert await ask(server, connections) == b"ok"
        assert server.asked == [1, 1]
