"""A streamed answer, byte for byte (facts of OpenAI's API, section 2)."""

import asyncio
import re

import pytest
from tests.host.fake_node import Offered
from tests.host.town import Town, request

from pinaivu_host.gateway import delivery
from pinaivu_shared.commitments import response_commitment
from pinaivu_shared.sse import assemble_choices, data_events
from pinaivu_shared.wire.node import ToolCallDelta

pytestmark = pytest.mark.anyio
FUNCTION = {"type": "function", "function": {"name": "f"}}


def masked(text: str) -> str:
    """The stream with what differs from run to run replaced."""
    text = re.sub(r"req_[0-9a-z]{26}", "req_ID", text)
    text = re.sub(r"chatcmpl-[0-9a-z]{26}", "chatcmpl-ID", text)
    return re.sub(r'"created":\d{10}', '"created":0', text)


def chunk(choices: str, *, usage: str = "") -> str:
    return (
        'data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":0,"model":"m","request_id":"req_ID",'
        f'"choices":[{choices}]{usage}}}\n\n'
    )


ROLE = '{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}'
STOP = '{"index":0,"delta":{},"finish_reason":"stop"}'


def text_piece(text: str) -> str:
    return f'{{"index":0,"delta":{{"content":{text}}},"finish_reason":null}}'


async def test_a_stream_is_exactly_this(town: Town) -> None:
    await town.node()
    response = await town.chat(stream=True)
    assert masked(response.text) == (
        chunk(ROLE) + chunk(text_piece('"Hel"')) + chunk(text_piece('"lo"')) + chunk(STOP) + "data: [DONE]\n\n"
    )
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert len(response.headers["x-pinaivu-salt"]) == 64
    assert response.headers["x-request-id"] in response.text


async def test_usage_comes_last_and_only_when_asked_for(town: Town) -> None:
    await town.node()
    response = await town.chat(stream=True, stream_options={"include_usage": True})
    null = ',"usage":null'
    usage = ',"usage":{"prompt_tokens":11,"completion_tokens":1,"total_tokens":12}'
    assert masked(response.text) == (
        chunk(ROLE, usage=null)
        + chunk(text_piece('"Hel"'), usage=null)
        + chunk(text_piece('"lo"'), usage=null)
        + chunk(STOP, usage=null)
        + chunk("", usage=usage)
        + "data: [DONE]\n\n"
    )


async def test_line_separators_are_escaped_and_other_text_is_not(town: Town) -> None:
    async def script(offered: Offered) -> None:
        await offered.answer("a\u2028b\u2029c\u0085d", 'é🌍"\\\n')

    await town.node(script)
    response = await town.chat(stream=True)
    assert '"a\\u2028b\\u2029c\\u0085d"' in response.text
    assert '"é🌍\\"\\\\\\n"' in response.text
    assert (
        "".join(assemble_choices(data_events(response.text))[0]["message"]["content"])
        == 'a\u2028b\u2029c\u0085dé🌍"\\\n'
    )


async def test_tool_calls_begin_with_id_and_name_and_go_on_with_arguments(town: Town) -> None:
    calls = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]

    async def script(offered: Offered) -> None:
        await offered.accept()
        await offered.delta(tool_calls=(ToolCallDelta(0, "call_1", "f", ""),))
        await offered.delta(tool_calls=(ToolCallDelta(0, arguments='{"a":'),))
        await offered.delta(tool_calls=(ToolCallDelta(0, arguments="1}"),))
        await offered.delta(finish_reason="tool_calls")
        choice = {"index": 0, "message": {"tool_calls": calls}, "finish_reason": "tool_calls"}
        await offered.prove("", choices=[choice])

    await town.node(script)
    response = await town.chat(stream=True, tools=[FUNCTION])
    begun = '{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}'
    assert begun in response.text
    assert '{"index":0,"function":{"arguments":"{\\"a\\":"}}' in response.text
    whole = await town.chat(tools=[FUNCTION])
    assert whole.json()["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": calls,
    }
    assert assemble_choices(data_events(response.text))[0]["message"]["tool_calls"] == calls


async def test_a_stream_commits_to_the_same_as_its_assembled_choices(town: Town) -> None:
    await town.node()
    response = await town.chat(stream=True)
    receipt = await town.client().get(f"/v1/receipts/{response.headers['x-request-id']}")
    salt = bytes.fromhex(response.headers["x-pinaivu-salt"])
    choices = assemble_choices(data_events(response.text))
    assert receipt.json()["response_commitment"] == response_commitment(choices, salt)


async def test_silence_is_filled_with_comments(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SILENCE_LIMIT_S", 0.05)
    seen = asyncio.Event()

    async def script(offered: Offered) -> None:
        await offered.accept()
        await seen.wait()
        await offered.delta("late")
        await offered.delta(finish_reason="stop")
        await offered.prove("late")

    await town.node(script)
    body = request(stream=True)
    text = ""
    async with town.client().stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        async for piece in response.aiter_text():
            text += piece
            if text.count(": keep-alive\n\n") >= 2:
                seen.set()
    assert masked(text).startswith(chunk(ROLE) + ": keep-alive\n\n: keep-alive\n\n")
    assert text.endswith("data: [DONE]\n\n")
    assert "late" in text


async def test_logprobs_are_shown_to_whom_asked_for_them(town: Town) -> None:
    entry = {"token": "Hi", "logprob": -0.5, "bytes": None, "top_logprobs": []}

    async def script(offered: Offered) -> None:
        await offered.accept()
        await offered.delta("Hi", logprobs={"content": [entry]})
        await offered.delta(finish_reason="stop")
        await offered.prove("Hi")

    await town.node(script)
    asked = await town.chat(stream=True, logprobs=True)
    events = list(data_events(asked.text))
    assert events[1]["choices"][0]["logprobs"] == {"content": [entry], "refusal": None}
    assert "logprobs" not in (await town.chat(stream=True)).text
    whole = await town.chat(logprobs=True)
    assert whole.json()["choices"][0]["logprobs"]["content"] == [entry]
    assert (await town.chat()).json()["choices"][0]["logprobs"] is None


async def test_a_named_service_tier_is_answered_with_the_default_one(town: Town) -> None:
    await town.node()
    assert (await town.chat(service_tier="flex")).json()["service_tier"] == "default"
    events = list(data_events((await town.chat(service_tier="flex", stream=True)).text))
    assert {event["service_tier"] for event in events} == {"default"}


async def test_a_node_sees_only_the_allowed_part_of_the_request(town: Town) -> None:
    seen: list[object] = []

    async def script(offered: Offered) -> None:
        seen.append(offered.request)
        await offered.answer("ok")

    await town.node(script)
    await town.chat(user="me", metadata={"a": "b"}, priority=1, temperature=0.5, max_tokens=16.0, stop=None)
    assert seen == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "temperature": 0.5,
            "max_tokens": 16,
        }
    ]
