"""The unmodified openai SDK for Python: what it parses out of every kind of answer."""

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from tests.clients.conftest import TEXT, outcome_of, receipts_of
from tests.clients.weather import ARGUMENTS, HISTORY, SCHEMA, TOOL, City
from tests.network.conftest import Description, http

MESSAGES: Any = [{"role": "user", "content": TEXT}]
CITY: Any = [{"role": "user", "content": ARGUMENTS}]
USAGE: Any = {"include_usage": True}


def text_of(chunks: list[Any]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def test_an_unstreamed_answer_is_the_engines(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="echo", messages=MESSAGES)
    assert answer.choices[0].message.content == TEXT
    assert (answer.choices[0].finish_reason, answer.model, answer.object) == ("stop", "echo", "chat.completion")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_a_stream_has_the_shapes_of_the_protocol(client: openai.OpenAI) -> None:
    chunks: list[Any] = list(client.chat.completions.create(model="echo", messages=MESSAGES, stream=True))
    first, last = chunks[0], chunks[-1]
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert text_of(chunks) == TEXT
    assert (last.choices[0].finish_reason, last.choices[0].delta.content) == ("stop", None)
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert len({(chunk.id, chunk.created, chunk.model, chunk.request_id) for chunk in chunks}) == 1
    assert all(chunk.usage is None and "usage" not in chunk.model_fields_set for chunk in chunks)


def test_usage_comes_only_when_asked_for_and_last(client: openai.OpenAI) -> None:
    chunks: list[Any] = list(
        client.chat.completions.create(model="echo", messages=MESSAGES, stream=True, stream_options=USAGE)
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks[:-1])


def test_a_history_with_content_parts_is_understood(client: openai.OpenAI) -> None:
    messages: Any = HISTORY
    answer = client.chat.completions.create(model="echo", messages=messages)
    assert answer.choices[0].message.content == "four five six"


def test_several_choices_stand_side_by_side(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "one two"}]
    whole = client.chat.completions.create(model="echo", messages=messages, n=2)
    assert [(one.index, one.message.content) for one in whole.choices] == [(0, "one two"), (1, "twoone ")]
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 4
    stream: Any = client.chat.completions.stream(model="echo", messages=messages, n=2, stream_options=USAGE)
    with stream as events:
        final = events.get_final_completion()
    assert [one.message.content for one in final.choices] == [one.message.content for one in whole.choices]
    assert [one.finish_reason for one in final.choices] == ["stop", "stop"]
    assert final.usage == whole.usage


def test_log_probabilities_come_with_each_token_streamed_and_not(client: openai.OpenAI) -> None:
    asked: Any = {"model": "echo", "messages": [{"role": "user", "content": "one two"}]}
    wanted: Any = {"logprobs": True, "top_logprobs": 2}
    logprobs = client.chat.completions.create(**asked, **wanted).choices[0].logprobs
    assert logprobs is not None
    assert [(one.token, len(one.top_logprobs)) for one in logprobs.content or ()] == [("one ", 2), ("two", 2)]
    with client.chat.completions.stream(**asked, **wanted) as stream:
        streamed = stream.get_final_completion().choices[0].logprobs
    assert streamed is not None
    assert streamed.content == logprobs.content
    assert client.chat.completions.create(**asked).choices[0].logprobs is None


def test_max_tokens_ends_the_answer_with_length(client: openai.OpenAI) -> None:
    for limit in ({"max_tokens": 2}, {"max_completion_tokens": 2}):
        answer = client.chat.completions.create(model="echo", messages=MESSAGES, **limit)  # type: ignore[call-overload]
        assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 2)


def test_a_tool_is_called_and_its_result_understood(client: openai.OpenAI) -> None:
    tools: Any = [TOOL]
    message = client.chat.completions.create(model="caller", messages=CITY, tools=tools).choices[0].message
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Zürich"})
    assert message.content is None
    told = [*CITY, message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    answer = client.chat.completions.create(model="caller", messages=told, tools=tools)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("rain", "stop")


def test_a_streamed_tool_call_is_put_together(client: openai.OpenAI) -> None:
    tools: Any = [TOOL]
    with client.chat.completions.stream(model="caller", messages=CITY, tools=tools) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Zürich"}


def test_a_structured_answer_is_parsed(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(model="structured", messages=CITY, response_format=City)
    assert parsed.choices[0].message.parsed == City(city="Zürich")
    with client.chat.completions.stream(model="structured", messages=CITY, response_format=City) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == City(city="Zürich")
    schema: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
    answer = client.chat.completions.create(model="structured", messages=CITY, response_format=schema)
    assert json.loads(answer.choices[0].message.content or "") == {"city": "Zürich"}


def test_the_request_id_is_in_body_and_header(client: openai.OpenAI) -> None:
    answer: Any = client.chat.completions.create(model="echo", messages=MESSAGES)
    assert answer.request_id == answer._request_id
    raw = client.chat.completions.with_raw_response.create(model="echo", messages=MESSAGES)
    assert raw.parse().request_id == raw.headers["x-request-id"] == raw.request_id  # type: ignore[attr-defined]
    assert len(raw.headers["x-pinaivu-salt"]) == 64


def test_a_raw_streamed_response_has_headers_first(client: openai.OpenAI) -> None:
    streaming = client.chat.completions.with_streaming_response
    with streaming.create(model="echo", messages=MESSAGES, stream=True) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert {chunk["request_id"] for chunk in chunks} == {response.headers["x-request-id"]}


def test_a_receipt_is_fetched_with_the_same_client(client: openai.OpenAI) -> None:
    answer: Any = client.chat.completions.create(model="echo", messages=MESSAGES)
    receipt = client.get(f"/receipts/{answer.request_id}", cast_to=httpx.Response).json()
    assert (receipt["request_id"], receipt["outcome"]) == (answer.request_id, "completed")


def test_models_are_listed_and_found_by_ids_with_colon_and_slash(client: openai.OpenAI) -> None:
    listed = [model.id for model in client.models.list()]
    assert {"llama3.2:3b", "pinaivu/echo:1"} <= set(listed)
    assert listed == sorted(listed)
    for name in listed:
        found = client.models.retrieve(name)
        assert (found.id, found.object) == (name, "model")
        assert client.chat.completions.create(model=name, messages=MESSAGES, max_tokens=1).model == name
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no/such:model")
    assert caught.value.code == "model_not_found"


def test_one_idempotency_key_is_one_job(client: openai.OpenAI) -> None:
    key = {"Idempotency-Key": "openai-python"}
    first, second = [
        client.chat.completions.create(model="echo", messages=MESSAGES, extra_headers=key) for _ in range(2)
    ]
    assert first == second
    with pytest.raises(openai.ConflictError) as caught:
        client.chat.completions.create(model="echo", messages=CITY, extra_headers=key)
    assert caught.value.code == "idempotency_conflict"
    key = {"Idempotency-Key": "openai-python stream"}
    streams = [
        list(client.chat.completions.create(model="echo", messages=MESSAGES, stream=True, extra_headers=key))
        for _ in range(2)
    ]
    assert streams[0] == streams[1]


def test_a_stream_left_half_way_is_cancelled_and_the_next_request_works(
    network: Description, client: openai.OpenAI
) -> None:
    with client.chat.completions.create(model="slow", messages=MESSAGES, stream=True) as stream:
        chunk: Any = next(chunk for chunk in stream if chunk.choices[0].delta.content)
    assert outcome_of(network, chunk.request_id) == "cancelled"
    assert client.chat.completions.create(model="echo", messages=MESSAGES).choices[0].message.content == TEXT


def test_a_request_that_takes_too_long_for_its_client_is_cancelled(network: Description, client: openai.OpenAI) -> None:
    before = receipts_of(network)
    impatient = client.with_options(timeout=0.5, max_retries=0)
    with pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(model="slow", messages=MESSAGES)
    while not (new := receipts_of(network) - before):
        pass
    assert [outcome for _, outcome in new] == ["cancelled"]


def test_the_async_client_answers_alike(network: Description) -> None:
    async def ask() -> tuple[str | None, str]:
        async with openai.AsyncOpenAI(base_url=network["base_url"], api_key=network["api_key"]) as client:
            answer = await client.chat.completions.create(model="echo", messages=MESSAGES)
            stream = await client.chat.completions.create(model="echo", messages=MESSAGES, stream=True)
            return answer.choices[0].message.content, text_of([chunk async for chunk in stream])

    assert asyncio.run(ask()) == (TEXT, TEXT)


def test_the_raw_stream_ends_with_done(network: Description) -> None:
    body = {"model": "echo", "messages": MESSAGES, "stream": True}
    with http(network) as raw:
        answer = raw.post("/chat/completions", json=body)
    events = answer.text.split("\n\n")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (events[-2], events[-1]) == ("data: [DONE]", "")
    assert all(json.loads(event.removeprefix("data: ")) for event in events[:-2])
