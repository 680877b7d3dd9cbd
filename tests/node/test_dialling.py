"""Dialling a gateway that cannot be had: the error says what was met, and the node tries again."""

from functools import partial

import pytest
import trio
import trio.testing

from pinaivu_node.connection import ConnectionLostError, open_connection

from .running import network

pytestmark = pytest.mark.trio


async def why_lost(answer: bytes) -> str:
    """What is said of a server that gives this answer to the handshake and keeps the connection."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(answer)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), serve, 0)
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/"
        with pytest.raises(ConnectionLostError) as lost:
            async with open_connection(url):
                pass
        nursery.cancel_scope.cancel()
    return str(lost.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", "502 Bad Gateway where a WebSocket was asked for"),
        (
            b"403 No\r\ncontent-length: 2\r\n\r\nno",
            "403 Forbidden where a WebSocket was asked for; is its address right? A gateway of several processes",
        ),
        (b"404 No\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "404 Not Found where"),
        (b"599 Odd\r\ncontent-length: 0\r\n\r\n", "599 where a WebSocket was asked for"),
    ],
    ids=["proxy", "forbidden", "not found", "unheard of"],
)
async def test_a_handshake_answered_with_a_status_is_a_lost_connection(answer: bytes, said: str) -> None:
    assert (await why_lost(b"HTTP/1.1 " + answer)).startswith(f"gateway: answered {said}")


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 101 Yes\r\n\r\n"], ids=["ssh", "half a yes"]
)
async def test_what_is_no_handshake_at_all_is_one_too(answer: bytes) -> None:
    assert await why_lost(answer) == "gateway: answered what is no HTTP; is its address right?"


async def test_a_node_whose_handshake_was_refused_tries_again(
    caplog: pytest.LogCaptureFixture, mock_clock: trio.testing.MockClock
) -> None:
    async with network(refusals=(502, 403)) as running:
        for times in (1, 2):
            while caplog.messages.count("session ended") < times:
                await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked(0)
            clock_pause = 0.1 * times  # jitter is 0 here, which halves each pause
            mock_clock.jump(clock_pause)
        await running.open()
    ended = [vars(record)["kv"] for record in caplog.records if record.getMessage() == "session ended"]
    assert [one["code"] for one in ended] == ["connection_lost"] * 2
    assert ["502" in one["detail"] for one in ended] == [True, False]
