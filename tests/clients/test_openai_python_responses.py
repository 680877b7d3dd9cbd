"""The unmodified openai SDK for Python: responses."""

import json
from typing import Any

import openai
import pytest
from tests.clients.conftest import TEXT, outcome_of
from tests.clients.weather import ARGUMENTS, TOOL, City
from tests.network.conftest import Description

TOOLS: Any = [{"type": "function", **TOOL["function"]}]


def test_a_response_is_the_engines(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="echo", input=TEXT, instructions="You are brief.")
    assert (answer.output_text, answer.status, answer.instructions) == (TEXT, "completed", "You are brief.")
    assert answer.usage is not None
    assert answer.usage.input_tokens == len(f"You are brief. {TEXT}".split())
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def test_a_stream_ends_in_the_whole_response(client: openai.OpenAI) -> None:
    whole = client.responses.create(model="echo", input=TEXT)
    with client.responses.stream(model="echo", input=TEXT) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert (final.output_text, final.usage) == (TEXT, whole.usage)


def test_a_conversation_is_sent_again_with_the_output_in_it(client: openai.OpenAI) -> None:
    first = client.responses.create(model="echo", input="one two")
    items: Any = [{"role": "user", "content": "one two"}, *first.output, {"role": "user", "content": "three"}]
    answer = client.responses.create(model="echo", input=items)
    assert answer.output_text == "three"
    assert answer.usage is not None
    assert answer.usage.input_tokens == 5


def test_max_output_tokens_leaves_a_response_incomplete(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="echo", input=TEXT, max_output_tokens=2)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_a_structured_response_is_parsed(client: openai.OpenAI) -> None:
    parsed = client.responses.parse(model="structured", input=ARGUMENTS, text_format=City)
    assert parsed.output_parsed == City(city="Zürich")
    with client.responses.stream(model="structured", input=ARGUMENTS, text_format=City) as stream:
        assert stream.get_final_response().output_parsed == City(city="Zürich")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_function_is_called_and_its_output_understood(client: openai.OpenAI, *, streamed: bool) -> None:
    items: Any = [{"role": "user", "content": ARGUMENTS}]
    output: Any
    if streamed:
        with client.responses.stream(model="caller", input=items, tools=TOOLS) as stream:
            output = stream.get_final_response().output
    else:
        output = client.responses.create(model="caller", input=items, tools=TOOLS).output
    (call,) = output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", {"city": "Zürich"})
    told = [*items, call, {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    assert client.responses.create(model="caller", input=told, tools=TOOLS).output_text == "rain"


def test_log_probabilities_are_included(client: openai.OpenAI) -> None:
    answer: Any = client.responses.create(
        model="echo", input="one two", include=["message.output_text.logprobs"], top_logprobs=2
    )
    logprobs = answer.output[0].content[0].logprobs
    assert [(one.token, len(one.top_logprobs)) for one in logprobs] == [("one ", 2), ("two", 2)]


def test_former_responses_are_not_kept_and_that_is_said(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no responses are kept here") as caught:
        client.responses.create(model="echo", input=TEXT, previous_response_id="resp_1")
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "previous_response_id")


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"model": "gpt-9"}, openai.UnprocessableEntityError, "model_not_found"),
        ({"temperature": 3}, openai.UnprocessableEntityError, "invalid_value"),
        ({"tools": [{"type": "web_search"}]}, openai.BadRequestError, "unsupported_parameter"),
    ],
    ids=["unknown model", "temperature", "a tool of the server"],
)
def test_errors_are_the_sdks_own_classes(
    client: openai.OpenAI, fields: dict[str, Any], error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as caught:
        client.responses.create(**{"model": "echo", "input": TEXT, **fields})
    assert caught.value.code == code
    assert str(caught.value.request_id).startswith("req_")


def test_a_response_that_breaks_off_is_an_error_and_no_end(client: openai.OpenAI) -> None:
    events: list[Any] = []
    stream = client.responses.create(model="breaks", input=TEXT, stream=True)
    with pytest.raises(openai.APIError, match="the node failed") as caught:
        events.extend(stream)
    assert events[-1].type == "response.output_text.delta"
    assert caught.value.code == "node_failed"
    assert not isinstance(caught.value, openai.APIStatusError)


def test_a_stream_left_half_way_is_cancelled(network: Description, client: openai.OpenAI) -> None:
    with client.responses.create(model="slow", input=TEXT, stream=True) as stream:
        first: Any = next(iter(stream))
        next(event for event in stream if event.type == "response.output_text.delta")
    assert outcome_of(network, first.response.id.replace("resp_", "req_")) == "cancelled"
