"""Completions and several choices: what each engine's stream becomes, choice by choice."""

from typing import Any

import pytest

from pinaivu_node.engines.events import EngineError, Event, Finish, Text, ToolCalls, Usage
from pinaivu_node.engines.openai import OpenAIEngine
from pinaivu_node.engines.request import engine_request
from pinaivu_shared.wire.node import ToolCallDelta

from .scripted import chunk, serving, streamed, usage

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
COMPLETION: dict[str, Any] = {"prompt": "Once"}


async def ask(body: dict[str, Any], *script: bytes, limit: int = 100) -> tuple[list[Event], Usage]:
    request = engine_request(
        body, model="m", limit=limit, extras={}, capabilities=("chat", "completions", "multiple_choices")
    )
    async with (
        serving(script) as scripted,
        OpenAIEngine(scripted.address, api_key="", connections=1) as engine,
        engine.answer(request) as answer,
    ):
        events = [one async for batch in answer for one in batch]
        return events, answer.usage


def of(index: int, content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return chunk(content, finish, choice={"index": index}, **more)


def text(piece: str, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    choice = {"index": index, "text": piece, "logprobs": None, "finish_reason": finish}
    return {"id": "x", "object": "text_completion", "choices": [choice]}


def counted(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}}


@pytest.mark.trio
@pytest.mark.parametrize(
    "events",
    [
        [text(" upon"), text(" a"), text("", "length"), usage(1, 2)],
        [text(" upon"), text(" a", "length"), usage(1, 2)],
        [text(" upon"), text(" a"), {**text("", "length"), **counted(1, 2)}],
    ],
    ids=["ollama", "vllm", "llama"],
)
async def test_a_completion_is_text(events: list[Any]) -> None:
    assert await ask(COMPLETION, *streamed(*events)) == ([Text(" upon a"), Finish("length")], Usage(1, 2))


TURNS = [of(0, "a"), of(1, "x"), of(1, "y"), of(0, "b")]
ENDS = [of(1, finish="stop"), of(0, finish="length")]
VLLM = [*TURNS, *ENDS, usage(5, 6)]
CONTINUOUS = [{**one, **counted(5, 3)} for one in (*TURNS, *ENDS)]
LLAMA = [*TURNS, ENDS[0], usage(5, 3), ENDS[1], usage(5, 3)]
LLAMA_COMPLETION = [
    *(text("ab"[place], index=0) for place in range(2)),
    *(text("xy"[place], index=1) for place in range(2)),
    {**text("", "stop", 1), **counted(5, 3)},
    {**text("", "length", 0), **counted(5, 3)},
]


@pytest.mark.trio
@pytest.mark.parametrize(
    ("body", "events"),
    [
        (CHAT, VLLM),
        (CHAT, [*CONTINUOUS, usage(5, 6)]),
        (CHAT, CONTINUOUS),
        (CHAT, LLAMA),
        (COMPLETION, LLAMA_COMPLETION),
    ],
    ids=["vllm", "continuous", "continuous without an end", "llama", "llama's completions"],
)
async def test_choices_are_kept_apart_and_their_tokens_summed(body: dict[str, Any], events: list[Any]) -> None:
    found, cost = await ask({**body, "n": 2}, *streamed(*events))
    for index, whole in enumerate(("ab", "xy")):
        assert "".join(one.content for one in found if isinstance(one, Text) and one.index == index) == whole
    assert found[-2:] == [Finish("length", 0), Finish("stop", 1)]
    assert cost == Usage(5, 6)


@pytest.mark.trio
async def test_of_one_choice_the_last_count_is_the_whole() -> None:
    script = streamed(of(0, "a"), of(0, finish="stop"), usage(5, 2), usage(5, 3))
    assert (await ask(CHAT, *script))[1] == Usage(5, 3)


@pytest.mark.trio
async def test_tool_calls_belong_to_their_choice() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    calls = [of(index, delta={"tool_calls": [call]}) for index in range(2)]
    ends = [of(index, finish="tool_calls") for index in range(2)]
    found, _ = await ask({**CHAT, "n": 2}, *streamed(*calls, *ends))
    assert found[:2] == [ToolCalls((ToolCallDelta(0, "c", "f", "{}"),), index) for index in range(2)]


@pytest.mark.trio
async def test_characters_cut_in_one_choice_are_no_matter_of_another() -> None:
    raw = [
        b'data: {"choices":[{"index":%d,"delta":{"content":"%b"}}]}\n\n' % (index, half)
        for half in (b"gr\xc3", b"\xbcn")
        for index in range(2)
    ]
    found, _ = await ask({**CHAT, "n": 2}, *streamed(*raw, *ENDS))
    assert [one.content for one in found if isinstance(one, Text) and one.index == 1] == ["gr", "ün"]


@pytest.mark.trio
async def test_each_choice_has_its_own_limit() -> None:
    """The first goes on beyond it, which ends that one only."""
    script = streamed(*(of(0, piece) for piece in "abc"), of(1, "x"), of(1, finish="stop"), usage(5, 4))
    found, cost = await ask({**CHAT, "n": 2}, *script, limit=5)
    assert [one for one in found if not isinstance(one, Finish)] == [Text("ab", index=0), Text("x", index=1)]
    assert found[-2:] == [Finish("length", 0), Finish("stop", 1)]
    assert cost == Usage(0, 3)


@pytest.mark.trio
@pytest.mark.parametrize(
    "events",
    [[of(0, "a"), of(0, finish="stop")], [of(0, "a"), of(0, finish="stop"), of(1, "x")], [of(2, "a")]],
    ids=["one of two is missing", "one of two is not finished", "one too many"],
)
async def test_an_answer_needs_all_its_choices_and_no_other(events: list[Any]) -> None:
    with pytest.RaisesGroup(EngineError, flatten_subgroups=True, allow_unwrapped=True):
        await ask({**CHAT, "n": 2}, *streamed(*events))
