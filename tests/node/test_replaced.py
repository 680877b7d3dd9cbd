"""Two processes with one key: the newer session counts, and the older one does not fight for its place."""

import pytest
import trio
import trio.testing

from pinaivu_node.agent import FIRST_YIELD_SECONDS
from pinaivu_shared.wire.node import Goodbye

from .engines.scripted import ScriptedEngine, chunk, event, head, serving
from .market import Counter
from .running import Network, network

HELD = [head("200 OK", "text/event-stream") + event(chunk("Good ")), ScriptedEngine.HOLD]
NOTICE = "another process uses this node's key"

pytestmark = pytest.mark.trio


async def replace(counter: Counter) -> None:
    """What the gateway does to the older session of a node."""
    await counter.gateway.send(Goodbye("replaced", ""))
    await counter.gateway.websocket.aclose(1000, "replaced")


async def until_told(caplog: pytest.LogCaptureFixture, times: int) -> None:
    while caplog.messages.count(NOTICE) < times:
        await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked(0)


async def comes_back_after(seconds: float, running: Network, clock: trio.testing.MockClock) -> Counter:
    """The next session, which must not begin earlier; jitter is 0 here, which halves each pause."""
    clock.jump(seconds / 2 - 1)
    await trio.testing.wait_all_tasks_blocked(0)
    with pytest.raises(trio.WouldBlock):
        running.connections.receive_nowait()
    clock.jump(1)
    return await running.open()


async def test_a_replaced_node_says_so_and_keeps_away_longer_each_time(
    caplog: pytest.LogCaptureFixture, mock_clock: trio.testing.MockClock
) -> None:
    async with network() as running:
        counter = await running.open()
        for times, pause in enumerate((1, 2, 4), 1):
            while len(running.kept) < times:
                await trio.lowlevel.checkpoint()  # its quote was acknowledged, which elsewhere shortens pauses
            await replace(counter)
            await until_told(caplog, times)
            counter = await comes_back_after(FIRST_YIELD_SECONDS * pause, running, mock_clock)


async def test_a_close_that_overtakes_the_goodbye_is_understood(
    caplog: pytest.LogCaptureFixture, mock_clock: trio.testing.MockClock
) -> None:
    async with network() as running:
        counter = await running.open()
        await counter.gateway.websocket.aclose(1000, "replaced")
        await until_told(caplog, 1)
        await comes_back_after(FIRST_YIELD_SECONDS, running, mock_clock)


async def test_a_replaced_node_stops_the_jobs_of_its_session(mock_clock: trio.testing.MockClock) -> None:
    async with serving(HELD) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        await engine.asked.wait()
        await replace(counter)
        await engine.left.wait()


async def test_a_replaced_node_leaves_at_once_when_it_is_told_to(
    caplog: pytest.LogCaptureFixture, mock_clock: trio.testing.MockClock
) -> None:
    async with network() as running:
        await replace(await running.open())
        await until_told(caplog, 1)
        running.agent.drain()
        await running.left.wait()
