"""Jobs: which award is run, what is streamed and proved, and what happens when anything goes wrong."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
import trio_websocket
from cryptography.hazmat.primitives.asymmetric import ec

from pinaivu_shared.canonical import encode
from pinaivu_shared.commitments import response_commitment
from pinaivu_shared.ids import digest_of
from pinaivu_shared.signed import Signed, sign_as_enclave
from pinaivu_shared.wire.node import Accept, Cancel, Decline, Delta, Offer, PostQuote, ToolCallDelta, WithdrawQuotes

from .engines.scripted import ScriptedEngine, chunk, event, head, refused, serving, streamed, usage
from .market import BODY, NODE, NOW_MS, SALT, TARIFF, Counter, network

ANSWER = streamed(chunk("Good "), chunk("day"), chunk(finish="stop"), usage(9, 3))
BEGUN = head("200 OK", "text/event-stream") + event(chunk("Good "))
HELD = [BEGUN, ScriptedEngine.HOLD]


def committed(content: str, finish_reason: str | None) -> str:
    message = {"role": "assistant", "content": content}
    return response_commitment([{"index": 0, "message": message, "finish_reason": finish_reason}], SALT)


@pytest.mark.trio
async def test_a_job_is_accepted_streamed_and_proved() -> None:
    async with serving(ANSWER) as engine, network(engine.address) as running:
        counter = await running.open()
        award = counter.award()
        await counter.offer(award)
        await counter.accepted(award)
        deltas, proof = await counter.outcome()
        assert "".join(delta.content for delta in deltas) == "Good day"
        assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
        assert deltas[-1] == Delta(award.request_id, finish_reason="stop")
        assert (proof.request_id, proof.session, proof.award) == (
            award.request_id,
            counter.gateway.session,
            digest_of(encode(award)),
        )
        assert (proof.node_id, proof.public_key) == (NODE.node_id, NODE.public_key.hex())
        assert (proof.outcome, proof.reason) == ("completed", "")
        assert (proof.prompt_tokens, proof.completion_tokens) == (9, 3)
        assert proof.forwarded_commitment == award.forwarded_commitment
        assert proof.response_commitment == committed("Good day", "stop")
        assert proof.sequence > counter.standing.sequence
        assert engine.requests[0]["max_tokens"] == award.max_completion_tokens
        assert engine.requests[0]["model"] == "llama"


@pytest.mark.trio
async def test_tool_calls_are_joined_in_the_commitment() -> None:
    pieces = [
        {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ":1}"}},
    ]
    chunks = [chunk(delta={"tool_calls": [piece]}) for piece in pieces]
    async with serving(streamed(*chunks, chunk(finish="tool_calls"))) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        deltas, proof = await counter.outcome()
        assert deltas[0].tool_calls[0] == ToolCallDelta(0, "c", "f", '{"a"')
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
        choice = {"index": 0, "message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
        assert proof.response_commitment == response_commitment([choice], SALT)


OTHER_KEY = ec.derive_private_key(9, ec.SECP256R1())
Spoil = Callable[[Counter], Offer]


def of_award(**changes: Any) -> Spoil:
    return lambda counter: counter.signed(counter.award(**changes))


def of_offer(**changes: Any) -> Spoil:
    return lambda counter: msgspec.structs.replace(counter.signed(counter.award()), **changes)


def of_body(body: Any, **changes: Any) -> Spoil:
    """An award that commits to this body, which no node should run."""
    return lambda counter: counter.signed(counter.award(body, **changes), body)


def by_other_key(counter: Counter) -> Offer:
    payload = encode(counter.award())
    return msgspec.structs.replace(counter.signed(counter.award()), award=sign_as_enclave("award", payload, OTHER_KEY))


def of_another_kind(counter: Counter) -> Offer:
    payload = encode(counter.award())
    signed = sign_as_enclave("challenge", payload, counter.gateway.enclave.receipt)
    return msgspec.structs.replace(counter.signed(counter.award()), award=signed)


def altered_after_signing(counter: Counter) -> Offer:
    signed = counter.signed(counter.award()).award
    payload = encode(counter.award(input_price=999))
    return msgspec.structs.replace(counter.signed(counter.award()), award=Signed(payload, signed.signature))


REFUSALS: dict[str, Spoil] = {
    "signed by another key": by_other_key,
    "signed as another kind": of_another_kind,
    "altered after signing": altered_after_signing,
    "another node": of_award(node_id="node_" + "0" * 32),
    "another session": of_award(session="ses_" + "9" * 32),
    "a quote never posted": of_award(quote=digest_of(b"other")),
    "another model": of_award(model="other"),
    "input price below the quote": of_award(input_price=99),
    "output price below the quote": of_award(output_price=199),
    "no token to answer with": of_award(max_completion_tokens=0),
    "first token overdue": of_award(first_token_by_ms=NOW_MS),
    "deadline over": of_award(deadline_ms=NOW_MS - 1),
    "another request's commitment": of_award(forwarded_commitment=digest_of(b"x")),
    "another length": of_award(request_bytes=1),
    "another salt": of_offer(salt=bytes(32)),
    "another request": of_offer(request=b'{"messages":[],"model":"llama3.2:1b"}'),
    "request not JSON": of_offer(request=b"{"),
    "request with a key twice": of_offer(request=b'{"model":"x","model":"x"}'),
    "request too deep": of_offer(request=b"[" * 100_000),
    "request not UTF-8": of_offer(request=b'"\xff"'),
    "request that is no object": of_body([BODY]),
    "request for another model": of_body({**BODY, "model": "other"}),
    "request with a field nodes must not see": of_body({**BODY, "user": "somebody"}),
}


@pytest.mark.trio
@pytest.mark.parametrize("spoil", REFUSALS.values(), ids=REFUSALS)
async def test_an_award_that_does_not_hold_is_declined_and_never_run(spoil: Spoil) -> None:
    async with serving() as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.gateway.send(spoil(counter))
        decline = await counter.gateway.receive(Decline)
        assert decline.reason == "invalid_award"
        assert not engine.asked.is_set()


@pytest.mark.trio
async def test_an_award_is_good_for_one_run() -> None:
    async with serving(ANSWER) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        await counter.outcome()
        for again in (award, msgspec.structs.replace(award, attempt=2)):
            await counter.offer(again)
            decline = await counter.gateway.receive(Decline)
            assert (decline.request_id, decline.reason) == (award.request_id, "invalid_award")


@pytest.mark.trio
async def test_an_award_of_an_earlier_session_is_not_run_in_the_next() -> None:
    async with network() as running:
        first = await running.open()
        award = first.award()
        await first.gateway.websocket.aclose()
        second = await running.open()
        await second.offer(award)
        assert (await second.gateway.receive(Decline)).reason == "invalid_award"


@pytest.mark.trio
async def test_an_offer_without_an_award_ends_the_session() -> None:
    async with network() as running:
        counter = await running.open()
        await counter.gateway.send(Offer(Signed(b"{}", b""), b"{}", SALT))
        await running.open()


@pytest.mark.trio
async def test_an_award_under_the_former_quote_is_still_run_after_its_renewal() -> None:
    async with (
        serving(ANSWER) as engine,
        network(engine.address, tariff=msgspec.structs.replace(TARIFF, quote_lifetime_ms=40)) as running,
    ):
        counter = await running.open()
        renewed, _ = await counter.gateway.quote()
        assert renewed.sequence > counter.standing.sequence
        await counter.offer(counter.award())
        while isinstance(message := await counter.gateway.any(), PostQuote):
            pass
        assert isinstance(message, Accept)


@pytest.mark.trio
async def test_jobs_beyond_the_quoted_slots_are_declined_as_busy() -> None:
    async with serving(HELD, HELD) as engine, network(engine.address) as running:
        counter = await running.open()
        for _ in range(TARIFF.slots):
            await counter.offer(award := counter.award())
            await counter.accepted(award)
            assert (await counter.gateway.receive(Delta)).content == "Good "
        await counter.offer(counter.award())
        assert (await counter.gateway.receive(Decline)).reason == "busy"


@pytest.mark.trio
async def test_a_job_is_declined_while_the_engine_is_not_ready() -> None:
    async with network() as running:
        counter = await running.open()
        running.engine.fail()
        await counter.gateway.receive(WithdrawQuotes)
        await counter.offer(counter.award())
        assert (await counter.gateway.receive(Decline)).reason == "engine_unavailable"


OVERFLOW = refused("400 Bad Request", {"error": {"message": "This model's maximum context length is 9 tokens."}})
EARLY_FAILURES: dict[str, tuple[Sequence[bytes], str]] = {
    "context": (OVERFLOW, "context_length_exceeded"),
    "unsupported": (refused("400 Bad Request", {"error": "no such thing"}), "unsupported_request"),
    "loading": (refused("503 Unavailable", {"error": "loading"}), "engine_unavailable"),
    "cut at once": ([], "engine_unavailable"),
    "no finish": (streamed(chunk(delta={"role": "assistant"})), "engine_unavailable"),
}


@pytest.mark.trio
@pytest.mark.parametrize(("script", "reason"), EARLY_FAILURES.values(), ids=EARLY_FAILURES)
async def test_a_failure_before_the_first_delta_is_a_decline(script: Sequence[bytes], reason: str) -> None:
    async with serving(script) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        decline = await counter.gateway.receive(Decline)
        assert decline.reason == reason
        assert (decline.detail == "") == (reason == "engine_unavailable")


@pytest.mark.trio
async def test_what_the_node_itself_refuses_is_a_decline() -> None:
    body = {**BODY, "n": 2}
    async with network() as running:
        counter = await running.open()
        await counter.offer(award := counter.award(body), body)
        await counter.accepted(award)
        assert (await counter.gateway.receive(Decline)).reason == "unsupported_request"


@pytest.mark.trio
async def test_an_engine_that_refuses_a_job_is_not_quoted_any_more() -> None:
    async with serving(refused("503 Unavailable", {})) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        assert {type(await counter.gateway.any()) for _ in range(2)} == {Decline, WithdrawQuotes}


@pytest.mark.trio
async def test_a_failure_after_the_first_delta_is_proved_as_failed() -> None:
    async with serving([BEGUN]) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        deltas, proof = await counter.outcome()
        assert [delta.content for delta in deltas] == ["Good "]
        assert (proof.outcome, proof.reason) == ("failed", "engine_unavailable")
        assert proof.response_commitment == committed("Good ", None)


@pytest.mark.trio
async def test_an_engine_without_usage_is_proved_with_zero_tokens() -> None:
    async with serving(streamed(chunk("a"), chunk(finish="stop"))) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        _, proof = await counter.outcome()
        assert (proof.outcome, proof.prompt_tokens, proof.completion_tokens) == ("completed", 0, 0)


@pytest.mark.trio
async def test_a_cancel_closes_the_engine_and_proves_what_was_generated() -> None:
    async with serving(HELD) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        assert (await counter.gateway.receive(Delta)).content == "Good "
        await counter.gateway.send(Cancel(award.request_id))
        await engine.left.wait()
        deltas, proof = await counter.outcome()
        assert not deltas
        assert (proof.outcome, proof.reason) == ("cancelled", "cancelled")
        assert proof.completion_tokens == 1
        assert proof.response_commitment == committed("Good ", None)


@pytest.mark.trio
async def test_a_cancel_before_the_first_token_proves_that_nothing_was_generated() -> None:
    async with serving([ScriptedEngine.HOLD]) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        await engine.asked.wait()
        await counter.gateway.send(Cancel(award.request_id))
        _, proof = await counter.outcome()
        assert (proof.outcome, proof.response_commitment, proof.completion_tokens) == ("cancelled", "", 0)
        await engine.left.wait()


@pytest.mark.trio
async def test_a_cancel_of_a_job_that_has_ended_does_nothing() -> None:
    async with serving(ANSWER, ANSWER) as engine, network(engine.address) as running:
        counter = await running.open()
        for _ in range(2):
            await counter.offer(award := counter.award())
            await counter.accepted(award)
            assert (await counter.outcome())[1].outcome == "completed"
            await counter.gateway.send(Cancel(award.request_id))


@pytest.mark.trio
async def test_no_first_token_in_time_is_a_decline() -> None:
    async with serving([ScriptedEngine.HOLD]) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award(first_token_by_ms=NOW_MS + 50))
        await counter.accepted(award)
        assert (await counter.gateway.receive(Decline)).reason == "engine_unavailable"
        await engine.left.wait()


@pytest.mark.trio
async def test_an_answer_that_is_not_whole_at_the_deadline_has_failed() -> None:
    async with serving(HELD) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award(deadline_ms=NOW_MS + 200))
        await counter.accepted(award)
        _, proof = await counter.outcome()
        assert (proof.outcome, proof.reason) == ("failed", "deadline")
        await engine.left.wait()


@pytest.mark.trio
async def test_a_lost_connection_stops_its_jobs() -> None:
    async with serving(HELD) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        await counter.gateway.receive(Delta)
        await counter.gateway.websocket.aclose()
        await engine.left.wait()
        await running.open()


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


@pytest.mark.trio
async def test_a_connection_that_takes_nothing_stops_the_engine_instead_of_filling_memory() -> None:
    pieces = [f"{number} ".ljust(100_000, "x") for number in range(300)]
    script = [head("200 OK", "text/event-stream"), *(event(chunk(piece)) for piece in pieces)]
    ending = event(chunk(finish="stop")) + event(usage(1, 300)) + b"data: [DONE]\n\n"
    async with serving([*script, ending]) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award(max_completion_tokens=5000))
        await counter.accepted(award)
        await engine.asked.wait()
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert not engine.told.is_set()
        deltas, proof = await counter.outcome()
        assert "".join(delta.content for delta in deltas) == "".join(pieces)
        assert proof.completion_tokens == 300
