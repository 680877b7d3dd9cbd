"""A node with several engines and models: each engine quotes, works, fails and is full for itself."""

import msgspec
import pytest
import trio

from pinaivu_node.tariff import Prices
from pinaivu_shared.terms import Quote
from pinaivu_shared.wire.node import Decline, Delta, PostQuote, WithdrawQuotes

from .engines.scripted import ScriptedEngine, chunk, event, head, refused, serving, streamed, usage
from .market import BODY, MODELS, TARIFF, Counter, Gateway
from .running import Network, network

FIRST, SECOND, THIRD = MODELS
FOUR_SLOTS = msgspec.structs.replace(TARIFF, slots=4)
DEARER = msgspec.structs.replace(TARIFF, input_price=300, slots=3)
ANSWER = streamed(chunk("Good "), chunk("day"), chunk(finish="stop"), usage(9, 3))
HELD = [head("200 OK", "text/event-stream") + event(chunk("Good ")), ScriptedEngine.HOLD]

pytestmark = pytest.mark.trio


def body(model: str) -> dict[str, object]:
    return {**BODY, "model": model}


async def quotes(gateway: Gateway, count: int) -> dict[str, Counter]:
    """The next quotes, by model."""
    taken = [Counter(gateway, *await gateway.quote()) for _ in range(count)]
    return {counter.standing.model: counter for counter in taken}


async def both(running: Network) -> tuple[Gateway, dict[str, Counter]]:
    """A session of a node whose engines are both ready, the first with one model and the second with two."""
    running.engines[1].become_ready(SECOND, THIRD)
    gateway = await running.connection()
    await gateway.admit()
    return gateway, await quotes(gateway, 3)


def priced(quote: Quote) -> tuple[int, int, int]:
    return quote.input_price, quote.output_price, quote.slots


async def test_each_engine_quotes_its_models_at_its_own_prices_and_slots() -> None:
    own = Prices(input_price=5, output_price=6)
    second = msgspec.structs.replace(DEARER, model_prices={THIRD: own})
    async with network(tariffs=(TARIFF, second)) as running:
        _, standing = await both(running)
        assert {model: priced(counter.standing) for model, counter in standing.items()} == {
            FIRST: (100, 200, 2),
            SECOND: (300, 200, 2),
            THIRD: (5, 6, 1),
        }


async def test_an_award_goes_to_the_engine_that_serves_its_model() -> None:
    async with (
        serving(ANSWER) as first,
        serving(ANSWER) as second,
        network(first.address, second.address, tariffs=(TARIFF, DEARER)) as running,
    ):
        _, standing = await both(running)
        await standing[SECOND].offer(award := standing[SECOND].award(body(SECOND)), body(SECOND))
        await standing[SECOND].accepted(award)
        assert (await standing[SECOND].outcome())[1].outcome == "completed"
        assert not first.asked.is_set()
        assert second.asked.is_set()


async def test_an_engine_that_goes_down_withdraws_its_own_models_only() -> None:
    async with serving(ANSWER) as first, network(first.address, tariffs=(TARIFF, DEARER)) as running:
        gateway, standing = await both(running)
        running.engines[1].fail()
        assert [await gateway.receive(WithdrawQuotes) for _ in range(2)] == [
            WithdrawQuotes(SECOND),
            WithdrawQuotes(THIRD),
        ]
        await standing[THIRD].offer(standing[THIRD].award(body(THIRD)), body(THIRD))
        assert (await gateway.receive(Decline)).reason == "engine_unavailable"
        await standing[FIRST].offer(award := standing[FIRST].award())
        await standing[FIRST].accepted(award)
        assert (await standing[FIRST].outcome())[1].outcome == "completed"


async def test_trouble_in_a_job_takes_down_the_engine_that_ran_it_and_no_other() -> None:
    async with (
        serving(refused("503 Unavailable", {})) as second,
        network("http://127.0.0.1:9", second.address, tariffs=(TARIFF, DEARER)) as running,
    ):
        gateway, standing = await both(running)
        await standing[SECOND].offer(award := standing[SECOND].award(body(SECOND)), body(SECOND))
        await standing[SECOND].accepted(award)
        told = [await gateway.any() for _ in range(3)]
        assert {one.model for one in told if isinstance(one, WithdrawQuotes)} == {SECOND, THIRD}
        assert running.engines[0].offering is not None


async def test_an_engine_that_loses_one_model_withdraws_that_one_and_shares_its_slots_anew() -> None:
    async with network(tariff=FOUR_SLOTS) as running:
        running.engine.become_ready(FIRST, SECOND)
        gateway = await running.connection()
        await gateway.admit()
        assert {counter.standing.slots for counter in (await quotes(gateway, 2)).values()} == {2}
        running.engine.become_ready(FIRST)
        assert await gateway.receive(WithdrawQuotes) == WithdrawQuotes(SECOND)
        assert (await quotes(gateway, 1))[FIRST].standing.slots == 4


async def test_a_full_engine_does_not_keep_another_from_working() -> None:
    async with (
        serving(HELD, HELD) as first,
        serving(ANSWER) as second,
        network(first.address, second.address, tariffs=(TARIFF, DEARER)) as running,
    ):
        gateway, standing = await both(running)
        for _ in range(TARIFF.slots):
            await standing[FIRST].offer(award := standing[FIRST].award())
            await standing[FIRST].accepted(award)
            await gateway.receive(Delta)
        await standing[FIRST].offer(standing[FIRST].award())
        assert (await gateway.receive(Decline)).reason == "busy"
        await standing[SECOND].offer(award := standing[SECOND].award(body(SECOND)), body(SECOND))
        await standing[SECOND].accepted(award)


async def test_a_model_runs_no_more_jobs_than_were_quoted_for_it() -> None:
    async with serving(HELD, HELD) as engine, network(engine.address, tariff=FOUR_SLOTS) as running:
        running.engine.become_ready(FIRST, SECOND)
        gateway = await running.connection()
        await gateway.admit()
        counter = (await quotes(gateway, 2))[FIRST]
        for _ in range(2):
            await counter.offer(award := counter.award())
            await counter.accepted(award)
            await gateway.receive(Delta)
        await counter.offer(counter.award())
        assert (await gateway.receive(Decline)).reason == "busy"


async def test_an_engine_never_runs_more_than_its_slots_whatever_its_models() -> None:
    """The slots quoted for one model become another's while jobs still fill them: the market cannot know that."""
    async with serving(*[HELD] * 3) as engine, network(engine.address, tariff=TARIFF) as running:
        counter = await running.open()
        for _ in range(TARIFF.slots):
            await counter.offer(award := counter.award())
            await counter.accepted(award)
            await counter.gateway.receive(Delta)
        running.engine.become_ready(FIRST, SECOND)
        standing = await quotes(counter.gateway, 2)
        assert {other.standing.slots for other in standing.values()} == {1}
        await standing[SECOND].offer(standing[SECOND].award(body(SECOND)), body(SECOND))
        assert (await counter.gateway.receive(Decline)).reason == "busy"
        assert len(engine.requests) == TARIFF.slots


async def test_a_model_of_two_engines_is_served_by_the_first_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with network(tariffs=(TARIFF, DEARER), quote_lifetime_ms=20) as running:
        running.engines[1].become_ready(FIRST)
        counter = await running.open()
        for quote in [counter.standing, *[(await counter.gateway.quote())[0] for _ in range(3)]]:
            assert quote.input_price == TARIFF.input_price
        assert caplog.messages.count("model is offered by an earlier engine too, which serves it") == 1
        running.engines[0].fail()
        while (await counter.gateway.quote())[0].input_price != DEARER.input_price:
            pass


async def test_a_price_for_a_model_that_the_engine_does_not_have_is_said(caplog: pytest.LogCaptureFixture) -> None:
    misspelt = msgspec.structs.replace(TARIFF, model_prices={"llama": Prices(input_price=1, output_price=1)})
    async with network(tariff=misspelt) as running:
        assert (await running.open()).standing.input_price == TARIFF.input_price
        assert "price or slots for a model that the engine does not have" in caplog.messages


async def test_a_draining_node_waits_for_the_jobs_of_all_engines() -> None:
    async with (
        serving(HELD) as first,
        serving(HELD) as second,
        network(first.address, second.address, tariffs=(TARIFF, DEARER), drain_seconds=0) as running,
    ):
        gateway, standing = await both(running)
        for model in (FIRST, SECOND):
            await standing[model].offer(award := standing[model].award(body(model)), body(model))
            await standing[model].accepted(award)
            await gateway.receive(Delta)
        running.agent.drain()
        assert await gateway.receive(WithdrawQuotes) == WithdrawQuotes("")
        for _ in range(2):
            assert (await standing[FIRST].outcome())[1].reason == "draining"
        await running.left.wait()


async def test_new_tariffs_are_quoted_at_once_and_running_jobs_keep_their_award() -> None:
    released = trio.Event()

    async def relayed(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(HELD[0])
            await released.wait()
            await stream.send_all(event(chunk(finish="stop")) + b"data: [DONE]\n\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, relayed, 0)
        async with network(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}") as running:
            counter = await running.open()
            await counter.offer(award := counter.award())
            await counter.accepted(award)
            await counter.gateway.receive(Delta)
            running.agent.set_tariffs([msgspec.structs.replace(TARIFF, output_price=300, slots=1)])
            dearer, digest = await counter.gateway.quote()
            assert priced(dearer) == (100, 300, 1)
            after = Counter(counter.gateway, dearer, digest)
            await after.offer(after.award())
            assert (await after.gateway.receive(Decline)).reason == "busy"
            released.set()
            assert (await counter.outcome())[1].outcome == "completed"
            await after.offer(after.award(output_price=299))
            assert (await after.gateway.receive(Decline)).reason == "invalid_award"
        nursery.cancel_scope.cancel()


async def test_a_quote_that_was_posted_is_kept_also_when_a_dearer_one_follows_it() -> None:
    async with network() as running:
        counter = await running.open()
        running.agent.set_tariffs([msgspec.structs.replace(TARIFF, output_price=300)])
        await counter.gateway.quote()
        await counter.offer(award := counter.award(output_price=200))
        await counter.accepted(award)


async def test_tariffs_that_stay_the_same_post_nothing() -> None:
    async with network(tariffs=(TARIFF, DEARER)) as running:
        gateway, _ = await both(running)
        running.agent.set_tariffs([TARIFF, msgspec.structs.replace(DEARER, input_price=301)])
        assert set(await quotes(gateway, 2)) == {SECOND, THIRD}
        running.agent.drain()
        message = await gateway.any()
        assert not isinstance(message, PostQuote)


async def test_a_price_above_the_list_price_withdraws_the_model() -> None:
    async with network(tariffs=(TARIFF, DEARER)) as running:
        gateway, _ = await both(running)
        running.agent.set_tariffs([msgspec.structs.replace(TARIFF, output_price=2001), DEARER])
        assert await gateway.receive(WithdrawQuotes) == WithdrawQuotes(FIRST)
