"""What an answer is said to have cost: the tokens that its reader got."""

from typing import Any

import pytest

from pinaivu_node.engines.events import Text, Usage
from pinaivu_node.engines.openai import OpenAIEngine
from pinaivu_node.engines.request import engine_request

from .scripted import chunk, serving, streamed, usage

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
JSON: dict[str, Any] = {"response_format": {"type": "json_object"}}


async def ask(*events: object, limit: int = 100, **fields: Any) -> tuple[str, Usage]:
    """What llama.cpp's answer of these events holds, and what is claimed for it."""
    request = engine_request(
        {**CHAT, **fields},
        model="m",
        limit=limit,
        extras={"timings_per_token": True},
        capabilities=("chat", "json_object", "multiple_choices"),
    )
    async with (
        serving(streamed(*events)) as scripted,
        OpenAIEngine(scripted.address, api_key="", connections=1) as engine,
        engine.answer(request) as answer,
    ):
        texts = [one.content async for batch in answer for one in batch if isinstance(one, Text)]
        return "".join(texts), answer.usage


def after(tokens: int, content: str | None = None, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    """A chunk of llama.cpp's when it has generated so many tokens."""
    timings = {"cache_n": 0, "prompt_n": 9, "predicted_n": tokens}
    return chunk(content, finish, delta={"content": content}, choice={"index": index}, timings=timings)


@pytest.mark.trio
async def test_blanks_that_were_trimmed_off_before_wanted_json_are_not_claimed() -> None:
    events = [after(1), after(26, "{"), after(27, "}"), chunk(finish="stop"), usage(9, 28)]
    assert await ask(*events, **JSON) == ("{}", Usage(9, 3))


@pytest.mark.trio
async def test_blanks_before_wanted_json_take_nothing_of_the_limit() -> None:
    events = [after(1), after(26, "{"), after(27, "a"), after(28, "b"), after(29, "c"), usage(9, 29)]
    assert await ask(*events, limit=3, **JSON) == (
        "{ab",
        Usage(9, 4),
    )  # what is beyond is not proved


@pytest.mark.trio
async def test_json_without_blanks_before_it_is_claimed_in_full() -> None:
    events = [after(1), after(1, "{"), after(2, "}"), chunk(finish="stop"), usage(9, 3)]
    assert await ask(*events, **JSON) == ("{}", Usage(9, 3))


@pytest.mark.trio
async def test_what_no_json_was_wanted_of_is_claimed_as_the_engine_counts_it() -> None:
    events = [after(1), after(26, "Hel"), after(27, "lo"), chunk(finish="stop"), usage(9, 28)]
    assert await ask(*events) == ("Hello", Usage(9, 28))


@pytest.mark.trio
async def test_reasoning_before_wanted_json_is_claimed() -> None:
    thoughts = [chunk(delta={"reasoning_content": "hm"}, timings={"predicted_n": n}) for n in (1, 2, 3)]
    events = [after(1), *thoughts, after(24, "{"), after(25, "}"), chunk(finish="stop"), usage(9, 26)]
    assert await ask(*events, **JSON) == ("{}", Usage(9, 6))


@pytest.mark.trio
async def test_of_several_choices_each_has_its_own_blanks() -> None:
    firsts = [after(1), after(1, index=1), after(11, "{"), after(21, "{", index=1)]
    ends = [chunk(finish="length"), chunk(finish="length", choice={"index": 1})]
    assert await ask(*firsts, *ends, usage(9, 11), usage(9, 21), n=2, **JSON) == ("{{", Usage(9, 2))
