"""`POST /v1/responses` beside Open Responses (https://www.openresponses.org/reference): it has what that requires."""

import json
from typing import Any, Final

import httpx
import pytest
from tests.host.fake_node import Offered
from tests.host.shape import check_shape
from tests.host.test_responses import WEATHER, calling, respond
from tests.host.town import Town

pytestmark = pytest.mark.anyio

RESPONSE: Final = (
    "id object created_at completed_at status incomplete_details model previous_response_id instructions output error"
    " tools tool_choice truncation parallel_tool_calls text top_p presence_penalty frequency_penalty top_logprobs"
    " temperature reasoning usage max_output_tokens max_tool_calls store background service_tier metadata"
    " safety_identifier prompt_cache_key"
)
NEVER_NULL: Final = (
    "tools tool_choice truncation parallel_tool_calls text top_p presence_penalty frequency_penalty top_logprobs"
    " temperature store background service_tier"
)
EVENTS: Final = {
    "response.created": "response",
    "response.in_progress": "response",
    "response.output_item.added": "output_index item",
    "response.content_part.added": "item_id output_index content_index part",
    "response.output_text.delta": "item_id output_index content_index delta logprobs",
    "response.output_text.done": "item_id output_index content_index text logprobs",
    "response.content_part.done": "item_id output_index content_index part",
    "response.function_call_arguments.delta": "item_id output_index delta",
    "response.function_call_arguments.done": "item_id output_index arguments",
    "response.output_item.done": "output_index item",
    "response.completed": "response",
}
SCHEMA: Final = {"type": "json_schema", "name": "place", "schema": {"type": "object"}}


def check_response(response: dict[str, Any]) -> None:
    assert {*RESPONSE.split()} <= {*response}
    assert not [name for name in NEVER_NULL.split() if response[name] is None]
    assert all({"type", "name", "description", "parameters", "strict"} <= {*tool} for tool in response["tools"])


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]


async def test_a_response_has_all_that_is_required_however_little_was_asked(town: Town) -> None:
    await town.node()
    body = (await respond(town)).json()
    check_response(body)
    assert (body["frequency_penalty"], body["presence_penalty"], body["top_logprobs"]) == (0, 0, 0)
    assert (body["service_tier"], body["max_tool_calls"], body["prompt_cache_key"]) == ("default", None, None)


async def test_every_event_has_all_that_is_required_and_so_has_the_response_in_it(town: Town) -> None:
    await town.node(calling)
    events = events_of(await respond(town, stream=True, tools=[WEATHER]))
    assert {event["type"] for event in events} == {*EVENTS}
    for number, event in enumerate(events):
        assert {"type", "sequence_number", *EVENTS[event["type"]].split()} <= {*event}
        assert event["sequence_number"] == number
        if "response" in event:
            check_response(event["response"])
    assert [event["response"]["completed_at"] is None for event in events if "response" in event] == [True, True, False]


async def test_what_was_asked_is_repeated_and_completed(town: Town) -> None:
    await town.node()
    asked = {
        "frequency_penalty": 0.5,
        "presence_penalty": -1,
        "top_logprobs": 3,
        "max_tool_calls": 2,
        "prompt_cache_key": "a",
        "safety_identifier": "b",
        "user": "c",
    }
    body = (await respond(town, **asked, tools=[WEATHER], text={"format": SCHEMA, "verbosity": "low"})).json()
    assert {name: body[name] for name in asked} == asked
    assert body["tools"] == [{"description": None, "strict": None, **WEATHER}]
    assert body["text"] == {"format": {**SCHEMA, "description": None, "strict": False}, "verbosity": "low"}


async def test_penalties_reach_the_node_and_names_of_end_users_do_not(town: Town) -> None:
    seen: list[Any] = []

    async def script(offered: Offered) -> None:
        seen.append(offered.request)
        await offered.answer("x")

    await town.node(script)
    await respond(town, frequency_penalty=0.5, presence_penalty=-1, safety_identifier="b", user="c")
    assert seen == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "frequency_penalty": 0.5,
            "presence_penalty": -1.0,
        }
    ]


IMAGE: Final = {"type": "input_image", "image_url": "https://example.org/cat.png"}


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"frequency_penalty": 2.5}, 422, "invalid_value", "frequency_penalty"),
        ({"max_tool_calls": 0}, 422, "invalid_value", "max_tool_calls"),
        ({"user": 7}, 422, "invalid_value", "user"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, 422, "missing_field", "text.format.schema"),
        (
            {"input": [{"role": "user", "content": "hi"}, {"role": "user", "content": [IMAGE]}]},
            400,
            "unsupported_image_url",
            "input.1.content",
        ),
    ],
)
async def test_a_fault_has_the_name_that_it_has_in_this_body(
    town: Town, fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    body = check_shape(await respond(town, **fields), status, "invalid_request_error", code)
    assert body["error"]["param"] == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"text": {"format": SCHEMA}}, "text.format"),
        ({"top_logprobs": 1}, "include"),
        ({"tools": [WEATHER]}, "tools"),
        ({"input": [{"role": "user", "content": [{**IMAGE, "image_url": "data:image/png;base64,AAAA"}]}]}, "input"),
    ],
    ids=["json_schema", "logprobs", "tools", "images"],
)
async def test_so_has_what_no_node_can_do(town: Town, fields: dict[str, Any], param: str) -> None:
    await town.node(capabilities=("chat",))
    body = check_shape(await respond(town, **fields), 400, "invalid_request_error", "unsupported_parameter")
    assert body["error"]["param"] == param
