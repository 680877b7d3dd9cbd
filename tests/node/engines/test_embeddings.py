"""Embeddings: the vectors that were asked for, packed; whatever else an engine sends is its failure."""

import base64
import json
import struct
from typing import Any

import pytest

from pinaivu_node.engines import embeddings
from pinaivu_node.engines.events import EngineError, Event, Finish, Text, Usage
from pinaivu_node.engines.openai import OpenAIEngine
from pinaivu_node.engines.request import engine_request

from .scripted import head, refused, serving, told

BODY: dict[str, Any] = {"input": ["Hi", "there"]}
FIRST, SECOND = [0.5, -2.0], [1.0, 0.25]


def entry(index: int, vector: object) -> dict[str, Any]:
    return {"object": "embedding", "index": index, "embedding": vector}


def listed(*entries: object, **more: object) -> list[bytes]:
    return told({"object": "list", "data": entries, "model": "x", **more})


async def ask(script: list[bytes], body: dict[str, Any] = BODY) -> tuple[list[Event], Usage]:
    async with (
        serving(script) as scripted,
        OpenAIEngine(scripted.address, api_key="", connections=1) as engine,
        engine.answer(engine_request(body, model="m", limit=0, extras={}, capabilities={"embeddings"})) as answer,
    ):
        events = [one async for batch in answer for one in batch]
        assert answer.ended
        return events, answer.usage


async def failure(script: list[bytes], body: dict[str, Any] = BODY) -> EngineError:
    with pytest.RaisesGroup(EngineError, flatten_subgroups=True, allow_unwrapped=True) as caught:
        await ask(script, body)
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, EngineError)
    return error


@pytest.mark.trio
@pytest.mark.parametrize(
    "entries",
    [
        [entry(0, FIRST), entry(1, SECOND)],
        [entry(1, SECOND), entry(0, FIRST)],
        [{"embedding": FIRST}, {"embedding": SECOND}],
    ],
    ids=["in order", "out of order", "without numbers"],
)
async def test_the_vectors_are_a_list_of_base64_in_the_order_of_the_inputs(entries: list[Any]) -> None:
    script = listed(*entries, usage={"prompt_tokens": 3, "total_tokens": 3})
    (answer, finish), cost = await ask(script)
    assert isinstance(answer, Text)
    packed = [base64.b64encode(struct.pack("<2f", *vector)).decode() for vector in (FIRST, SECOND)]
    assert answer.content == json.dumps(packed, separators=(",", ":"))
    assert finish == Finish("stop")
    assert cost == Usage(3, 0)


@pytest.mark.trio
async def test_an_engine_without_usage_counted_nothing() -> None:
    assert (await ask(listed(entry(0, FIRST), entry(1, SECOND))))[1] == Usage(0, 0)


WRONG: dict[str, list[bytes]] = {
    "too few": listed(entry(0, FIRST)),
    "too many": listed(entry(0, FIRST), entry(1, SECOND), entry(2, FIRST)),
    "one twice": listed(entry(0, FIRST), entry(0, SECOND)),
    "numbered from 1": listed(entry(1, FIRST), entry(2, SECOND)),
    "of two lengths": listed(entry(0, FIRST), entry(1, [1.0])),
    "empty": listed(entry(0, []), entry(1, [])),
    "beyond float32": listed(entry(0, FIRST), entry(1, [1e39, 0])),
    "no numbers": listed(entry(0, FIRST), entry(1, ["a", "b"])),
    "null": listed(entry(0, FIRST), entry(1, [None, 1])),
    "base64": listed(entry(0, "AAAA"), entry(1, "AAAA")),
    "no list": told({"data": 7}),
    "an error": told({"error": {"message": "boom"}}),
    "not finite": [head("200 OK", "application/json") + b'{"data":[{"embedding":[NaN]},{"embedding":[1]}]}'],
    "infinite": [head("200 OK", "application/json") + b'{"data":[{"embedding":[1e400]},{"embedding":[1]}]}'],
    "not JSON": [head("200 OK", "application/json") + b"vectors"],
    "cut off": [head("200 OK", "application/json", 9999) + b'{"data":['],
    "a page": [head("200 OK", "text/html") + b"<html>"],
    "trouble": refused("500 Server Error", {"error": "no"}),
}


@pytest.mark.trio
@pytest.mark.parametrize("script", WRONG.values(), ids=WRONG)
async def test_what_are_not_the_vectors_asked_for_is_a_failure_of_the_engine(script: list[bytes]) -> None:
    assert (await failure(script)).reason == "engine_unavailable"


@pytest.mark.trio
async def test_a_body_is_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "MAX_EMBEDDINGS_BYTES", 1000)
    error = await failure(listed(entry(0, FIRST), entry(1, SECOND), padding="x" * 1000))
    assert "more than 1000 bytes" in error.detail


@pytest.mark.trio
async def test_dimensions_that_the_model_does_not_have_are_the_callers_mistake() -> None:
    script = listed(entry(0, FIRST), entry(1, SECOND))
    assert await ask(script, {**BODY, "dimensions": 2})
    error = await failure(script, {**BODY, "dimensions": 3})
    assert (error.reason, error.detail) == ("unsupported_request", "dimensions: this model's embeddings have 2")


@pytest.mark.trio
async def test_a_refusal_tells_whose_fault_it_is() -> None:
    too_long = refused("400 Bad Request", {"error": "the input length exceeds the context length"})
    assert (await failure(too_long)).reason == "context_length_exceeded"
    assert (await failure(refused("503 Unavailable", {}))).down
