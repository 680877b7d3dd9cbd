"""The echo engine can do everything: completions, several choices, tools, formats, log-probabilities, embeddings."""

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from pinaivu_node.engines.echo_embeddings import DIMENSIONS, unit_vector
from pinaivu_node.engines.echo_schema import minimal_value
from pinaivu_node.engines.events import Finish, Text, ToolCalls
from pinaivu_node.engines.request import engine_request
from pinaivu_shared.terms import Capability
from pinaivu_shared.wire.node import ToolCallDelta

from .test_echo import ask, events
from .test_supervisor import ready, supervised

COMPLETIONS, EMBEDDINGS = "/v1/completions", "/v1/embeddings"
CHAT = {"messages": [{"role": "user", "content": "how are you"}]}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("first", "second")]
NAMED = {"type": "function", "function": {"name": "second"}}
LONG = {"minLength": 3}


def whole(path: str = "/v1/chat/completions", settings: str = "", **body: object) -> dict[str, Any]:
    answer: dict[str, Any] = msgspec.json.decode(ask(settings, path, **body)[1])
    return answer


@pytest.mark.trio
async def test_it_is_found_to_be_capable_of_everything() -> None:
    async with supervised("echo") as supervisor:
        (model,) = (await ready(supervisor)).models
        assert model.capabilities == tuple(sorted(get_args(Capability)))


@pytest.mark.trio
async def test_the_adapter_reads_what_it_says() -> None:
    bodies: list[dict[str, Any]] = [
        {"prompt": "how are you", "n": 2},
        {**CHAT, "tools": TOOLS, "tool_choice": NAMED},
        {**CHAT, "logprobs": True, "top_logprobs": 2},
        {"input": ["a", "b"], "dimensions": 2},
    ]
    async with supervised("echo") as supervisor:
        offering = await ready(supervisor)
        answers = []
        for body in bodies:
            request = engine_request(
                body, model="echo", limit=20, extras=offering.models[0].extras, capabilities=get_args(Capability)
            )
            async with offering.engine.answer(request) as answer:
                answers.append(([event async for batch in answer for event in batch], answer.usage.completion_tokens))
    completion, called, told, embedded = answers
    texts = [[one.content for one in completion[0] if isinstance(one, Text) and one.index == index] for index in (0, 1)]
    assert ["".join(text) for text in texts] == ["how are you", "are youhow "]
    assert completion[1] == 6
    assert called == (
        [ToolCalls((ToolCallDelta(0, "call_echo_0", "second", "{}"),)), Finish("tool_calls")],
        1,
    )
    assert [len(one.logprobs["content"][0]["top_logprobs"]) for one in told[0] if isinstance(one, Text)] == [2] * 3
    assert isinstance(embedded[0][0], Text)
    assert len(json.loads(embedded[0][0].content)) == 2


@pytest.mark.parametrize("stream", [True, False])
def test_a_completion_repeats_its_prompt(stream: bool) -> None:  # noqa: FBT001 - a table
    _, content, complete = ask("", COMPLETIONS, prompt="how are you", stream=stream, max_tokens=2)
    found = events(content) if stream else [msgspec.json.decode(content)]
    choices = [choice for event in found for choice in event["choices"]]
    assert "".join(choice["text"] for choice in choices) == "how are "
    assert choices[-1]["finish_reason"] == "length"
    assert {event["object"] for event in found} == {"text_completion"}
    assert complete


def test_each_choice_begins_one_piece_later() -> None:
    answer = whole(n=3, max_tokens=2)
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    assert texts == ["how are  ", "are  you", "youhow "]
    assert answer["usage"]["completion_tokens"] == 6


@pytest.mark.parametrize(("choice", "name"), [("required", "first"), (NAMED, "second")])
def test_a_function_that_must_be_called_is_called(choice: object, name: str) -> None:
    (found,) = whole(tools=TOOLS, tool_choice=choice)["choices"]
    assert found["finish_reason"] == "tool_calls"
    assert found["message"]["content"] is None
    assert [call["function"] for call in found["message"]["tool_calls"]] == [{"name": name, "arguments": "{}"}]


@pytest.mark.parametrize("choice", ["auto", "none", None])
def test_a_function_that_may_be_called_is_not(choice: object) -> None:
    (found,) = whole(tools=TOOLS, tool_choice=choice)["choices"]
    assert (found["finish_reason"], "tool_calls" in found["message"]) == ("stop", False)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, {}),
        ({"type": "string"}, ""),
        ({"type": ["integer", "null"]}, 0),
        ({"enum": ["a", "b"]}, "a"),
        ({"const": 7}, 7),
        ({"type": "array"}, []),
        (
            {
                "type": "object",
                "properties": {"ok": {"type": "boolean"}, "more": {"type": "object", "required": ["x"]}},
                "required": ["ok", "more"],
            },
            {"ok": False, "more": {"x": {}}},
        ),
        ({"type": "string", "minLength": 3}, "xxx"),
        ({"type": "integer", "minimum": 2.5}, 3),
        ({"type": "integer", "exclusiveMinimum": 0}, 1),
        ({"type": "array", "items": {"const": "a"}, "minItems": 2}, ["a", "a"]),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ""),
        ({"oneOf": [{"enum": [5]}]}, 5),
        (
            {"$defs": {"City": {"type": "string"}}, "required": ["c"], "properties": {"c": {"$ref": "#/$defs/City"}}},
            {"c": ""},
        ),
        (
            {"$defs": {"A": {"required": ["a"]}}, "allOf": [{"$ref": "#/$defs/A"}], "properties": {"a": {"const": 1}}},
            {"a": 1},
        ),
        ({"$ref": "#/nowhere"}, {}),
        ({"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"required": ["b"]}]}, {"a": 1, "b": {}}),
        (
            {"allOf": [{"required": ["a"], "properties": {"a": {"type": "string"}}}], "properties": {"a": LONG}},
            {"a": "xxx"},
        ),
        (
            {"oneOf": [{"required": ["a"]}], "required": ["b"], "properties": {"a": {"const": 1}, "b": {"const": 2}}},
            {"a": 1, "b": 2},
        ),
        ({"$defs": {"A": {"type": "string", "minLength": 1}}, "$ref": "#/$defs/A", "minLength": 2}, "xx"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}, {"minimum": 5}]}, 5),
        ({"type": ["null", "string"], "anyOf": [{"type": "string"}, {"type": "null"}]}, ""),
        ({"type": "array", "items": {"type": "array", "items": {}, "minItems": 100}, "minItems": 2}, [[{}] * 100] * 2),
    ],
)
def test_a_schema_is_answered_with_the_least_it_takes(schema: dict[str, Any], value: object) -> None:
    assert minimal_value(schema) == value
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert json.loads(whole(response_format=wanted)["choices"][0]["message"]["content"]) == value


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "hiccup"},
        {"type": "string", "minLength": -1},
        {"type": "string", "minLength": 10**9},
        {"required": "a"},
        {"allOf": 5},
        {"$defs": {"A": {"required": ["a"], "properties": {"a": {"$ref": "#/$defs/A"}}}}, "$ref": "#/$defs/A"},
        {"$defs": {"A": {"allOf": [{"$ref": "#/$defs/A"}]}}, "$ref": "#/$defs/A"},
    ],
)
def test_what_is_no_schema_is_400_as_at_other_engines(schema: dict[str, Any]) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert ask("", response_format=wanted)[0] == 400


def doubled(of: Callable[[dict[str, str]], dict[str, Any]], levels: int = 16) -> dict[str, Any]:
    """A schema whose definitions each ask twice for the next."""
    following = [{"$ref": f"#/$defs/D{level + 1}"} for level in range(levels)]
    return {"$defs": {f"D{level}": of(reference) for level, reference in enumerate(following)}, "$ref": "#/$defs/D0"}


def many(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1024, "items": item}


@pytest.mark.parametrize(
    "schema",
    [
        doubled(lambda following: {"required": ["a", "b"], "properties": {"a": following, "b": following}}),
        doubled(lambda following: {"allOf": [following, following]}),
        many(many({})),
        many({"const": "x" * 1000}),
        many({"required": ["x" * 1000]}),
        {"allOf": [{"$ref": "#/" + "x" * 1000}] * 100},
        {"$defs": {"A": {"enum": ["x"] * 1000}}, "allOf": [{"$ref": "#/$defs/A"}] * 100},
        {"$ref": "#"},
    ],
    ids=["values", "parts", "items", "constants", "names", "references", "entries", "itself"],
)
def test_a_schema_that_takes_too_many_steps_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="more than 50000 steps"):
        minimal_value(schema)
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    assert ask("", tools=tools, tool_choice="required")[0] == 400


def test_a_schema_may_require_thousands_of_properties() -> None:
    schema = {"properties": {f"name{number}": {"type": "string"} for number in range(2000)}}
    assert minimal_value({**schema, "required": list(schema["properties"])}) == dict.fromkeys(schema["properties"], "")


def test_a_function_gets_the_least_arguments_that_it_takes() -> None:
    parameters = {"required": ["city"], "properties": {"city": {"type": "string", "minLength": 1}, "days": {}}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    (found,) = whole(tools=tools, tool_choice="required")["choices"]
    (call,) = found["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "x"}'}


@pytest.mark.parametrize(
    ("stop", "text", "tokens"),
    [("are", "how ", 1), (["you", "w a"], "ho", 1), ("re  y", "how a", 2), ("how", "", 0), (["x"], "how are  you", 3)],
)
def test_an_answer_ends_before_a_stop_sequence(stop: object, text: str, tokens: int) -> None:
    answer = whole(stop=stop)
    (found,) = answer["choices"]
    assert (found["message"]["content"], found["finish_reason"]) == (text, "stop")
    assert answer["usage"]["completion_tokens"] == tokens


def test_any_json_object_is_the_empty_one() -> None:
    (found,) = whole(response_format={"type": "json_object"}, settings="tokens=9")["choices"]
    assert found["message"]["content"] == "{}"


def test_each_piece_has_its_log_probability_when_asked_for() -> None:
    (found,) = whole(logprobs=True, top_logprobs=2, max_tokens=1)["choices"]
    (token,) = found["logprobs"]["content"]
    assert (token["token"], token["logprob"], token["bytes"]) == ("how ", 0.0, list(b"how "))
    assert [one["token"] for one in token["top_logprobs"]] == ["how ", "other1 "]
    assert whole()["choices"][0]["logprobs"] is None


def test_embeddings_are_unit_vectors_of_digests() -> None:
    answer = whole(EMBEDDINGS, input=["one text", "another"])
    first, second = (entry["embedding"] for entry in answer["data"])
    digest = [byte - 127.5 for byte in hashlib.sha256(b"one text").digest()]
    assert first == pytest.approx([number / math.dist(digest, [0] * 32) for number in digest])
    assert second == unit_vector("another", DIMENSIONS)
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


@pytest.mark.parametrize("dimensions", [1, 31, 100])
def test_a_vector_has_as_many_dimensions_as_are_asked_for(dimensions: int) -> None:
    (entry,) = whole(EMBEDDINGS, input="a text", dimensions=dimensions)["data"]
    assert len(entry["embedding"]) == dimensions
    assert math.dist(entry["embedding"], [0] * dimensions) == pytest.approx(1)


@pytest.mark.parametrize(
    ("fault", "status", "complete"),
    [
        ("refuse", 503, True),
        ("error_after_tokens:1", 500, True),
        ("disconnect_after_tokens:1", 200, False),
    ],
)
def test_embeddings_of_more_than_one_word_meet_the_fault(fault: str, status: int, complete: bool) -> None:  # noqa: FBT001 - a table
    found, _, found_complete = ask(f"fault={fault}", EMBEDDINGS, input="two words")
    assert (found, found_complete) == (status, complete)
    assert ask(f"fault={fault}", EMBEDDINGS, input="word")[0] == 200


@pytest.mark.parametrize(
    ("path", "body"), [(COMPLETIONS, {}), (COMPLETIONS, {"prompt": ["a"]}), (EMBEDDINGS, {"input": [1]})]
)
def test_a_body_that_is_no_request_is_refused(path: str, body: dict[str, Any]) -> None:
    assert ask("", path, **body)[0] == 400
