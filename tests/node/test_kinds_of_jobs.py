"""Completions, embeddings and several choices as jobs: what is streamed, committed to and proved."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pinaivu_node.engines.discovery import ServedModel
from pinaivu_node.engines.supervisor import Offering
from pinaivu_shared.commitments import response_commitment
from pinaivu_shared.terms import Award, Capabilities, Proof
from pinaivu_shared.wire.node import MAX_NODE_MESSAGE_BYTES, Cancel, Decline, Delta
from pinaivu_shared.wire.node import encode as encode_message

from .engines.scripted import (
    Route,
    RoutedEngine,
    ScriptedEngine,
    chunk,
    event,
    head,
    refused,
    routing,
    streamed,
    told,
    usage,
)
from .market import BODY, MODEL, NOW_MS, SALT, Counter
from .running import Network, network

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
TWO: dict[str, Any] = {**BODY, "n": 2}
COMPLETION: dict[str, Any] = {"model": MODEL, "prompt": "Once upon"}
EMBEDDING: dict[str, Any] = {"model": MODEL, "input": ["Hi", "there"]}
NO_TOKENS = {"max_completion_tokens": 0}
VECTORS = told(
    {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [2.0]}], "usage": {"prompt_tokens": 3}}
)
PACKED = '["AACAPw==","AAAAQA=="]'
EVERYTHING: Capabilities = ("chat", "completions", "embeddings", "multiple_choices")

pytestmark = pytest.mark.trio


def of(index: int, content: str | None = None, finish: str | None = None) -> dict[str, Any]:
    return chunk(content, finish, choice={"index": index})


def committed(*choices: tuple[str, str | None]) -> str:
    return response_commitment(
        [
            {"index": index, "message": {"role": "assistant", "content": content}, "finish_reason": reason}
            for index, (content, reason) in enumerate(choices)
        ],
        SALT,
    )


@asynccontextmanager
async def at_work(routes: dict[str, Route]) -> AsyncIterator[tuple[RoutedEngine, Network, Counter]]:
    async with routing(routes) as engine, network(engine.address) as running:
        running.engine.become_ready(capabilities=EVERYTHING)
        yield engine, running, await running.open()


async def answered(routes: dict[str, Route], body: dict[str, Any], **changes: Any) -> tuple[list[Delta], Proof, Award]:
    async with at_work(routes) as (_, _, counter):
        await counter.offer(award := counter.award(body, **changes), body)
        await counter.accepted(award)
        return *await counter.outcome(), award


async def declined(routes: dict[str, Route], body: dict[str, Any], **changes: Any) -> Decline:
    async with at_work(routes) as (_, _, counter):
        await counter.offer(award := counter.award(body, **changes), body)
        await counter.accepted(award)
        return await counter.gateway.receive(Decline)


async def test_the_quote_says_what_the_model_can_do() -> None:
    async with at_work({}) as (_, _, counter):
        assert counter.standing.capabilities == EVERYTHING


async def test_a_completion_is_streamed_and_proved_like_a_chat() -> None:
    texts = [{"choices": [{"index": 0, "text": piece, "finish_reason": None}]} for piece in (" a", " time")]
    script = streamed(*texts, {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}, usage(2, 2))
    deltas, proof, award = await answered({COMPLETIONS: script}, COMPLETION)
    assert "".join(delta.content for delta in deltas) == " a time"
    assert deltas[-1] == Delta(award.request_id, finish_reason="stop")
    assert (proof.outcome, proof.prompt_tokens, proof.completion_tokens) == ("completed", 2, 2)
    assert proof.response_commitment == committed((" a time", "stop"))


async def test_embeddings_are_one_answer_without_completion_tokens() -> None:
    deltas, proof, _ = await answered({EMBEDDINGS: VECTORS}, EMBEDDING, **NO_TOKENS)
    assert [(delta.content, delta.finish_reason) for delta in deltas] == [(PACKED, ""), ("", "stop")]
    assert (proof.outcome, proof.prompt_tokens, proof.completion_tokens) == ("completed", 3, 0)
    assert proof.response_commitment == committed((PACKED, "stop"))


async def test_large_embeddings_come_in_pieces_that_a_message_holds() -> None:
    vectors = [{"index": index, "embedding": [0.5] * 2048} for index in range(100)]
    body = {"model": MODEL, "input": ["text"] * 100}
    deltas, proof, _ = await answered({EMBEDDINGS: told({"data": vectors})}, body, **NO_TOKENS)
    assert len(deltas) > 2
    assert max(len(encode_message(delta)) for delta in deltas) < MAX_NODE_MESSAGE_BYTES
    content = "".join(delta.content for delta in deltas)
    assert len(json.loads(content)) == 100
    assert proof.response_commitment == committed((content, "stop"))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (told({"data": []}), "engine_unavailable"),
        (
            refused("400 Bad Request", {"error": "the input length exceeds the context length"}),
            "context_length_exceeded",
        ),
        (refused("400 Bad Request", {"error": "no"}), "unsupported_request"),
    ],
)
async def test_embeddings_that_cannot_be_had_are_a_decline(script: list[bytes], reason: str) -> None:
    assert (await declined({EMBEDDINGS: script}, EMBEDDING, **NO_TOKENS)).reason == reason


async def test_embeddings_that_do_not_come_in_time_are_a_decline() -> None:
    held: dict[str, Route] = {EMBEDDINGS: [ScriptedEngine.HOLD]}
    decline = await declined(held, EMBEDDING, **NO_TOKENS, first_token_by_ms=NOW_MS + 50)
    assert decline.reason == "engine_unavailable"


async def test_cancelled_embeddings_prove_that_nothing_was_delivered() -> None:
    async with at_work({EMBEDDINGS: [ScriptedEngine.HOLD]}) as (engine, _, counter):
        await counter.offer(award := counter.award(EMBEDDING, **NO_TOKENS), EMBEDDING)
        await counter.accepted(award)
        await engine.asked.wait()
        await counter.gateway.send(Cancel(award.request_id))
        deltas, proof = await counter.outcome()
        assert (deltas, proof.outcome, proof.response_commitment) == ([], "cancelled", "")
        await engine.left.wait()


async def test_several_choices_are_kept_apart_and_committed_to_together() -> None:
    script = streamed(of(1, "x"), of(0, "a"), of(1, "y"), of(1, finish="length"), of(0, finish="stop"), usage(5, 4))
    async with at_work({CHAT: script}) as (engine, _, counter):
        await counter.offer(award := counter.award(TWO), TWO)
        await counter.accepted(award)
        deltas, proof = await counter.outcome()
        assert engine.requests[0]["n"] == 2
        assert engine.requests[0]["max_tokens"] == award.max_completion_tokens // 2
    texts = ["".join(delta.content for delta in deltas if delta.index == index) for index in (0, 1)]
    assert texts == ["a", "xy"]
    assert [(delta.index, delta.finish_reason) for delta in deltas[-2:]] == [(0, "stop"), (1, "length")]
    assert (proof.outcome, proof.prompt_tokens, proof.completion_tokens) == ("completed", 5, 4)
    assert proof.response_commitment == committed(("a", "stop"), ("xy", "length"))


async def test_of_choices_that_were_cut_short_all_are_committed_to_without_an_end() -> None:
    begun = head("200 OK", "text/event-stream") + event(of(1, "x"))
    async with at_work({CHAT: [begun, ScriptedEngine.HOLD]}) as (_, _, counter):
        await counter.offer(award := counter.award(TWO), TWO)
        await counter.accepted(award)
        await counter.gateway.receive(Delta)
        await counter.gateway.send(Cancel(award.request_id))
        _, proof = await counter.outcome()
        assert (proof.outcome, proof.completion_tokens) == ("cancelled", 1)
        assert proof.response_commitment == committed(("", None), ("x", None))


async def test_a_choice_that_never_ends_fails_the_whole() -> None:
    script = streamed(of(0, "a"), of(0, finish="stop"), of(1, "x"), done=False)
    _, proof, _ = await answered({CHAT: script}, TWO)
    assert (proof.outcome, proof.reason) == ("failed", "engine_unavailable")
    assert proof.response_commitment == committed(("a", None), ("x", None))


@pytest.mark.parametrize(
    ("body", "lacking"),
    [(TWO, "multiple_choices"), (COMPLETION, "completions"), ({**BODY, "logprobs": True}, "logprobs")],
)
async def test_what_the_model_cannot_do_is_declined_by_its_name(body: dict[str, Any], lacking: str) -> None:
    async with network() as running:
        counter = await running.open()
        await counter.offer(award := counter.award(body), body)
        await counter.accepted(award)
        decline = await counter.gateway.receive(Decline)
        assert (decline.reason, decline.detail) == ("unsupported_request", f"this model does not offer {lacking}")


async def test_a_json_object_is_asked_for_with_the_grammar_of_its_model() -> None:
    body = {**BODY, "response_format": {"type": "json_object"}}
    answer = streamed(chunk("{}"), chunk(finish="stop"), usage(5, 2))
    model = ServedModel(MODEL, "llama", 4096, ("chat", "json_object"), extras={}, json_grammar="root ::= object")
    async with routing({CHAT: answer}) as engine, network(engine.address) as running:
        running.engine._set(Offering(running.engine.engine, (model,)))
        counter = await running.open()
        await counter.offer(award := counter.award(body), body)
        await counter.accepted(award)
        await counter.outcome()
        assert engine.requests[0]["grammar"] == "root ::= object"
        assert "response_format" not in engine.requests[0]
