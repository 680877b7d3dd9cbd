"""Leaving: a node that is told to go finishes what it began, within bounds."""

import pytest
import trio
import trio.testing
import trio_websocket

from pinaivu_shared.wire.node import Accept, Decline, Delta, WithdrawQuotes

from .engines.scripted import ScriptedEngine, chunk, event, head, serving, streamed, usage
from .running import network

ANSWER = streamed(chunk("Good "), chunk("day"), chunk(finish="stop"), usage(9, 3))
BEGUN = head("200 OK", "text/event-stream") + event(chunk("Good "))
HELD = [BEGUN, ScriptedEngine.HOLD]


@pytest.mark.trio
async def test_a_draining_node_finishes_its_jobs_takes_no_more_and_leaves() -> None:
    released = trio.Event()

    async def relayed(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(BEGUN)
            await released.wait()
            await stream.send_all(event(chunk(finish="stop")) + b"data: [DONE]\n\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, relayed, 0)
        async with network(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}") as running:
            counter = await running.open()
            await counter.offer(award := counter.award())
            await counter.accepted(award)
            await counter.gateway.receive(Delta)
            running.agent.drain()
            assert await counter.gateway.receive(WithdrawQuotes) == WithdrawQuotes("")
            await counter.offer(counter.award())
            assert (await counter.gateway.receive(Decline)).reason == "draining"
            released.set()
            assert (await counter.outcome())[1].outcome == "completed"
            await running.left.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.trio
@pytest.mark.parametrize(("script", "begun"), [(HELD, True), ([ScriptedEngine.HOLD], False)], ids=["begun", "silent"])
async def test_jobs_that_outlast_the_patience_of_a_draining_node_are_given_up(
    script: list[bytes],
    begun: bool,  # noqa: FBT001 - a table
) -> None:
    async with serving(script) as engine, network(engine.address, drain_seconds=0) as running:
        counter = await running.open()
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        await engine.asked.wait()
        if begun:
            await counter.gateway.receive(Delta)
        running.agent.drain()
        await counter.gateway.receive(WithdrawQuotes)
        if begun:
            _, proof = await counter.outcome()
            assert (proof.outcome, proof.reason) == ("failed", "draining")
        else:
            assert (await counter.gateway.receive(Decline)).reason == "draining"
        with pytest.raises(trio_websocket.ConnectionClosed):
            await counter.gateway.receive(Accept)
        await running.left.wait()


@pytest.mark.trio
async def test_an_idle_node_leaves_as_soon_as_it_is_told_to() -> None:
    async with network() as running:
        counter = await running.open()
        running.agent.drain()
        await counter.gateway.receive(WithdrawQuotes)
        await running.left.wait()
