"""`POST /v1/completions`: one text continued, in the shapes of OpenAI's legacy endpoint."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from tests.host.fake_node import Offered, breaking
from tests.host.shape import check_shape
from tests.host.town import Town

from pinaivu_shared.wire.link import OpenJob

pytestmark = pytest.mark.anyio


async def complete(town: Town, **fields: Any) -> httpx.Response:
    return await town.client().post("/v1/completions", json={"model": "m", "prompt": "Once", **fields})


async def test_an_answer_has_the_shape_of_openai(town: Town) -> None:
    await town.node()
    response = await complete(town)
    body = response.json()
    assert body["id"] == "cmpl-" + body["request_id"][4:]
    assert body["object"] == "text_completion"
    assert body["choices"] == [{"text": "Hello", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"] == {"prompt_tokens": 11, "completion_tokens": 1, "total_tokens": 12}
    receipt = await town.client().get(f"/v1/receipts/{body['request_id']}")
    assert receipt.json()["outcome"] == "completed"


async def test_a_stream_has_chunks_of_the_same_shape(town: Town) -> None:
    await town.node()
    response = await complete(town, stream=True, stream_options={"include_usage": True})
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    assert "".join(one["text"] for chunk in chunks for one in chunk["choices"]) == "Hello"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, "stop"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 12
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


async def test_a_broken_stream_ends_with_an_error(town: Town) -> None:
    begun = asyncio.Event()
    await town.node(breaking(begun))
    body = {"model": "m", "prompt": "Once", "stream": True}
    async with town.client().stream("POST", "/v1/completions", json=body) as response:
        begun.set()
        text = (await response.aread()).decode()
    assert response.status_code == 200
    assert '"code":"node_failed"' in text
    assert "[DONE]" not in text


@pytest.mark.parametrize("prompt", ["Once", ["Once"]], ids=["text", "a list of one"])
async def test_the_node_gets_the_prompt_as_text(town: Town, prompt: Any) -> None:
    seen: list[Any] = []

    async def script(offered: Offered) -> None:
        seen.append(offered.request)
        await offered.answer("x")

    await town.node(script)
    await complete(town, prompt=prompt, echo=False, suffix="", user="me", seed=3)
    assert seen[0] == {"model": "m", "prompt": "Once", "seed": 3}


@pytest.mark.parametrize(("fields", "tokens"), [({}, 16), ({"max_tokens": 5}, 5), ({"max_tokens": 5, "n": 2}, 10)])
async def test_without_a_limit_there_are_sixteen_tokens_as_at_openai(
    town: Town, fields: dict[str, Any], tokens: int
) -> None:
    await town.node()
    await complete(town, **fields)
    (opened,) = town.enclave.all_of(OpenJob)
    assert opened.max_tokens == tokens
    assert opened.needs == ("completions", *(("multiple_choices",) if "n" in fields else ()))


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"prompt": None}, 422, "missing_field", "prompt"),
        ({"prompt": 7}, 422, "invalid_value", "prompt"),
        ({"prompt": []}, 422, "invalid_value", "prompt"),
        ({"prompt": ""}, 400, "invalid_request", "prompt"),
        ({"prompt": [""]}, 400, "invalid_request", "prompt"),
        ({"prompt": [None]}, 422, "invalid_value", "prompt.0"),
        ({"prompt": ["a", True]}, 422, "invalid_value", "prompt.1"),
        ({"prompt": [1, 2]}, 400, "unsupported_parameter", "prompt"),
        ({"prompt": [[1, 2]]}, 400, "unsupported_parameter", "prompt"),
        ({"prompt": ["a", "b"]}, 400, "unsupported_parameter", "prompt"),
        ({"n": 9}, 400, "unsupported_parameter", "n"),
        ({"best_of": 2}, 400, "unsupported_parameter", "best_of"),
        ({"best_of": 1, "n": 2}, 400, "invalid_request", "best_of"),
        ({"echo": True}, 400, "unsupported_parameter", "echo"),
        ({"logprobs": 0}, 400, "unsupported_parameter", "logprobs"),
        ({"logprobs": 6}, 422, "invalid_value", "logprobs"),
        ({"suffix": "end"}, 400, "unsupported_parameter", "suffix"),
        ({"logit_bias": {"1": 1}}, 400, "unsupported_parameter", "logit_bias"),
        ({"stream_options": {}}, 400, "invalid_request", "stream_options"),
        ({"max_completion_tokens": 5}, 400, "unsupported_parameter", "max_completion_tokens"),
        ({"response_format": {"type": "json_object"}}, 400, "unsupported_parameter", "response_format"),
        ({"tools": [{"type": "function"}]}, 400, "unsupported_parameter", "tools"),
        ({"temperature": 3}, 422, "invalid_value", "temperature"),
        ({"max_tokens": 0}, 422, "invalid_value", "max_tokens"),
    ],
)
async def test_what_cannot_be_asked_is_named(
    town: Town, fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    body = check_shape(await complete(town, **fields), status, "invalid_request_error", code)
    assert body["error"]["param"] == param
    assert not town.enclave.all_of(OpenJob)


async def test_what_only_chats_have_is_named_with_what_to_use_and_its_absence_is_not(town: Town) -> None:
    await town.node()
    body = (await complete(town, max_completion_tokens=5)).json()
    assert body["error"]["message"] == "there is no max_completion_tokens here: use max_tokens"
    assert (await complete(town, max_completion_tokens=None, tools=[], response_format=None)).status_code == 200
