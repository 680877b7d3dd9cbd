"""Jobs: which award is run, what is streamed and proved, and what happens when anything goes wrong."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.commitments import response_commitment
from pinaivu_shared.ids import digest_of
from pinaivu_shared.terms import Award, Proof
from pinaivu_shared.wire.node import (
    MAX_NODE_MESSAGE_BYTES,
    Cancel,
    Decline,
    Delta,
    ToolCallDelta,
    WithdrawQuotes,
)
from pinaivu_shared.wire.node import encode as encode_message

from .engines.scripted import ScriptedEngine, chunk, event, head, refused, serving, streamed, usage
from .market import BODY, NODE, NOW_MS, SALT, TARIFF
from .running import network

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
        assert [decode(one.proof.payload, Proof, check="proof") for one in running.proven] == [proof]
        assert decode(running.proven[0].award.payload, Award, check="award") == award
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


@pytest.mark.trio
async def test_what_an_engine_says_at_once_is_cut_to_what_the_gateway_takes() -> None:
    said = "x" * 1_000_000
    async with serving(streamed(chunk(said), chunk(finish="stop"))) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        deltas, proof = await counter.outcome()
        assert "".join(delta.content for delta in deltas) == said
        assert max(len(encode_message(delta)) for delta in deltas) < MAX_NODE_MESSAGE_BYTES // 2
        assert proof.response_commitment == committed(said, "stop")


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
async def test_an_engine_that_fails_is_told_of_in_the_log_without_a_word_of_the_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = {"message": "CUDA error at: the secret prompt", "type": "server_error", "code": 500}
    async with serving(refused("500 Server Error", {"error": error})) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        await counter.gateway.receive(Decline)
    (told,) = [record for record in caplog.records if record.message.startswith("engine failed")]
    assert told.levelname == "WARNING"
    assert told.kv == {  # type: ignore[attr-defined] # the log's own
        "request_id": award.request_id,
        "status": 500,
        "detail": "the engine answered 500 (server_error)",
    }
    assert "secret" not in str([record.__dict__ for record in caplog.records])


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


@pytest.mark.trio
async def test_an_engine_that_counts_beyond_its_limit_does_not_make_its_node_claim_it() -> None:
    answer = streamed(chunk("Good day"), chunk(finish="length"), usage(9, 51))
    async with serving(answer) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award(max_completion_tokens=50))
        await counter.accepted(award)
        _, proof = await counter.outcome()
        assert proof.completion_tokens == 50
