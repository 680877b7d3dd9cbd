"""`POST /v1/responses`: the same job in the shape of OpenAI's newer API, read by OpenAI's own client."""

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response
from tests.host.fake_node import Offered, breaking
from tests.host.shape import check_shape
from tests.host.town import Town

from pinaivu_host.gateway.responses.answer import read_response
from pinaivu_shared.wire.link import OpenJob
from pinaivu_shared.wire.node import ToolCallDelta

pytestmark = pytest.mark.anyio
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}


async def respond(town: Town, **fields: Any) -> httpx.Response:
    return await town.client().post("/v1/responses", json={"model": "m", "input": "hi", **fields})


def sdk(town: Town) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{town.port}/v1", api_key=town.key, max_retries=0)


async def calling(offered: Offered) -> None:
    """Says a word and calls a function, whose arguments come in two pieces."""
    await offered.accept()
    await offered.delta("Look: ")
    await offered.delta(tool_calls=(ToolCallDelta(0, "call_1", "weather", '{"city"'),))
    await offered.delta(tool_calls=(ToolCallDelta(0, arguments=':"Rome"}'),))
    await offered.delta(finish_reason="tool_calls")
    message = {"content": "Look: ", "tool_calls": [CALL]}
    await offered.prove("", choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}])


async def test_an_answer_has_the_shape_of_openai(town: Town) -> None:
    await town.node()
    body = (await respond(town)).json()
    assert body["id"] == "resp_" + body["request_id"][4:]
    assert (body["object"], body["status"], body["error"], body["store"]) == ("response", "completed", None, False)
    assert body["output"] == [
        {
            "id": "msg_" + body["request_id"][4:],
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
        }
    ]
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"], body["usage"]["total_tokens"]) == (11, 1, 12)
    Response.model_validate(body, strict=False)


async def test_the_sdk_reads_text_and_calls(town: Town) -> None:
    await town.node(calling)
    async with sdk(town) as client:
        answer = await client.responses.create(model="m", input="hi", tools=[WEATHER])  # type: ignore[list-item]
    assert answer.output_text == "Look: "
    (call,) = [item for item in answer.output if item.type == "function_call"]
    assert (call.call_id, call.name, call.arguments) == ("call_1", "weather", '{"city":"Rome"}')


async def test_the_sdk_follows_a_stream(town: Town) -> None:
    await town.node(calling)
    async with (
        sdk(town) as client,
        client.responses.stream(model="m", input="hi", tools=[WEATHER]) as stream,  # type: ignore[list-item]
    ):
        seen = [event async for event in stream]
        final = await stream.get_final_response()
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert [event.type.removeprefix("response.") for event in seen] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    whole = (await respond(town, tools=[WEATHER])).json()
    assert final.output_text == "Look: "
    assert [item.type for item in final.output] == [item["type"] for item in whole["output"]]
    assert final.usage is not None
    assert final.usage.total_tokens == whole["usage"]["total_tokens"]


async def test_a_broken_stream_raises_in_the_sdk(town: Town) -> None:
    begun = asyncio.Event()
    await town.node(breaking(begun))
    async with sdk(town) as client:
        stream = await client.responses.create(model="m", input="hi", stream=True)
        begun.set()
        with pytest.raises(openai.APIError) as caught:
            [event async for event in stream]
    assert caught.value.code == "node_failed"


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("stop", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_was_cut_says_so(
    town: Town, reason: str, status: str, details: dict[str, str] | None, *, stream: bool
) -> None:
    async def cut(offered: Offered) -> None:
        await offered.answer("Hello", finish_reason=reason)

    await town.node(cut)
    response = await respond(town, stream=stream, max_output_tokens=5)
    body = json.loads(response.text.split("data: ")[-1])["response"] if stream else response.json()
    assert (body["status"], body["incomplete_details"], body["max_output_tokens"]) == (status, details, 5)
    assert body["output"][0]["status"] == status


async def test_the_node_gets_the_chat_that_is_meant(town: Town) -> None:
    seen: list[Any] = []

    async def script(offered: Offered) -> None:
        seen.append(offered.request)
        await offered.answer("x")

    await town.node(script)
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Look", "annotations": []}],
        },
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "call_2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "and this?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
            ],
        },
    ]
    schema = {"type": "json_schema", "name": "place", "schema": {"type": "object"}, "strict": True}
    answer = await respond(
        town,
        input=items,
        instructions="Be short.",
        max_output_tokens=9,
        tools=[{**WEATHER, "strict": False}],
        tool_choice={"type": "function", "name": "weather"},
        text={"format": schema},
        reasoning={"effort": "low"},
        temperature=0,
        store=True,
        include=["reasoning.encrypted_content"],
        metadata={"end_user": "somebody"},
    )
    assert answer.status_code == 200, answer.text
    first, second = (
        {"id": f"call_{n}", "type": "function", "function": {"name": "weather", "arguments": "{}"}} for n in (1, 2)
    )
    assert seen[0] == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": "Look", "tool_calls": [first, second]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "and this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                ],
            },
        ],
        "max_completion_tokens": 9,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "place", "schema": {"type": "object"}, "strict": True},
        },
        "tools": [
            {
                "type": "function",
                "function": {"name": "weather", "parameters": WEATHER["parameters"], "strict": False},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "reasoning_effort": "low",
        "temperature": 0.0,
    }
    (opened,) = town.enclave.all_of(OpenJob)
    assert (opened.needs, opened.max_tokens) == (("chat", "images", "json_schema", "tools"), 9)
    assert answer.json()["text"] == {"format": {**schema, "description": None}}


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"input": None}, 422, "missing_field", "input"),
        ({"input": []}, 422, "invalid_value", "input"),
        ({"input": [{"role": "user"}]}, 422, "missing_field", "input"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, 400, "unsupported_parameter", "input"),
        ({"input": [{"type": "reasoning"}]}, 400, "invalid_request", "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, 400, "unsupported_parameter", "input"),
        ({"previous_response_id": "resp_1"}, 400, "unsupported_parameter", "previous_response_id"),
        ({"background": True}, 400, "unsupported_parameter", "background"),
        ({"conversation": "conv_1"}, 400, "unsupported_parameter", "conversation"),
        ({"truncation": "auto"}, 400, "unsupported_parameter", "truncation"),
        ({"tools": [{"type": "web_search"}]}, 400, "unsupported_parameter", "tools"),
        ({"tool_choice": "required"}, 400, "invalid_request", "tool_choice"),
        ({"tool_choice": {"type": "web_search"}}, 400, "unsupported_parameter", "tool_choice"),
        ({"max_output_tokens": 0}, 422, "invalid_value", "max_output_tokens"),
        ({"max_tokens": 5}, 400, "unsupported_parameter", "max_tokens"),
        ({"max_completion_tokens": 5}, 400, "unsupported_parameter", "max_completion_tokens"),
        ({"n": 2}, 400, "unsupported_parameter", "n"),
        ({"reasoning_effort": "low"}, 400, "unsupported_parameter", "reasoning_effort"),
        ({"response_format": {"type": "json_object"}}, 400, "unsupported_parameter", "response_format"),
        ({"stop": ["."]}, 400, "unsupported_parameter", "stop"),
        ({"temperature": 2.5}, 422, "invalid_value", "temperature"),
        ({"top_logprobs": 21}, 422, "invalid_value", "top_logprobs"),
        ({"text": {"format": {"type": "xml"}}}, 422, "invalid_value", "text"),
    ],
)
async def test_what_cannot_be_asked_is_named(
    town: Town, fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    body = check_shape(await respond(town, **fields), status, "invalid_request_error", code)
    assert body["error"]["param"].split(".")[0] == param
    assert not town.enclave.all_of(OpenJob)


async def test_what_chats_call_otherwise_is_named_with_what_to_use_and_its_absence_is_not(town: Town) -> None:
    await town.node()
    body = (await respond(town, max_tokens=5)).json()
    assert body["error"]["message"] == "there is no max_tokens here: use max_output_tokens"
    assert (await respond(town, max_tokens=None, n=1, response_format=None, stop=[])).status_code == 200


def test_what_a_model_refused_to_say_reaches_a_node_as_text() -> None:
    refused = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
    forwarded = read_response({"model": "m", "input": [refused, {"role": "user", "content": "why?"}]}).forwarded
    assert forwarded["messages"] == [
        {"role": "assistant", "content": [{"type": "text", "text": "no"}]},
        {"role": "user", "content": "why?"},
    ]
