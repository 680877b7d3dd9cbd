"""Tool calls: whole, in pieces, or numbered as an engine pleases, they come out as those that the model made."""

from typing import Any

import pytest

from pinaivu_node.engines.events import Finish, ToolCalls
from pinaivu_shared.wire.node import ToolCallDelta

from .scripted import chunk, streamed
from .test_openai import STOP, ask, failure


@pytest.mark.trio
async def test_tool_calls_come_whole_or_in_pieces() -> None:
    def call(**function: str) -> dict[str, Any]:
        return {"index": 0, "id": "c1", "type": "function", "function": function}

    whole = [chunk(delta={"tool_calls": [call(name="f", arguments="{}")]}), chunk(finish="tool_calls")]
    assert (await ask(*streamed(*whole)))[0] == [
        ToolCalls((ToolCallDelta(0, "c1", "f", "{}"),)),
        Finish("tool_calls"),
    ]
    pieces = [
        chunk(delta={"tool_calls": [call(name="f", arguments="")]}),
        chunk(delta={"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        chunk(finish="function_call"),
    ]
    events, _ = await ask(*streamed(*pieces))
    assert events[1:] == [ToolCalls((ToolCallDelta(0, "", "", "{}"),)), Finish("tool_calls")]


@pytest.mark.trio
async def test_arguments_cut_inside_a_character_arrive_whole_or_replaced() -> None:
    halves = (b'"gr\xc3"', b'"\xbcn\xf0"')
    call = b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":%b}}]}}]}\n\n'
    events, _ = await ask(*streamed(*(call % half for half in halves), STOP))
    pieces = [piece.arguments for event in events if isinstance(event, ToolCalls) for piece in event.calls]
    assert pieces == ["gr", "ün", "\ufffd"]


@pytest.mark.trio
async def test_whole_tool_calls_without_an_index_are_calls_of_their_own() -> None:
    calls = [{"function": {"name": name, "arguments": "{}"}} for name in "fg"]
    events, _ = await ask(*streamed(chunk(delta={"tool_calls": calls}), STOP))
    assert events[0] == ToolCalls((ToolCallDelta(0, "", "f", "{}"), ToolCallDelta(1, "", "g", "{}")))


@pytest.mark.trio
async def test_tool_calls_are_numbered_as_they_begin_and_named_once() -> None:
    def call(index: int, arguments: str) -> dict[str, Any]:
        return {"index": index, "id": f"c{index}", "function": {"name": f"f{index}", "arguments": arguments}}

    pieces = [chunk(delta={"tool_calls": [call(index, "{")]}) for index in (7, 2)]
    pieces += [chunk(delta={"tool_calls": [call(2, "}"), call(7, "}")]}), STOP]
    events, _ = await ask(*streamed(*pieces))
    assert events[:3] == [
        ToolCalls((ToolCallDelta(0, "c7", "f7", "{"),)),
        ToolCalls((ToolCallDelta(1, "c2", "f2", "{"),)),
        ToolCalls((ToolCallDelta(1, arguments="}"), ToolCallDelta(0, arguments="}"))),
    ]


@pytest.mark.trio
@pytest.mark.parametrize(
    ("calls", "why"),
    [([{"index": 0, "function": {"arguments": "{}"}}], "name"), ([{"function": {"name": "f"}}] * 129, "128")],
    ids=["nameless", "too many"],
)
async def test_calls_that_nobody_could_use_are_the_engines_fault(calls: list[dict[str, Any]], why: str) -> None:
    error = await failure(*streamed(chunk(delta={"tool_calls": calls}), STOP))
    assert why in str(error)


def numbered(own_id: str, name: str, arguments: str, index: int = 0) -> dict[str, Any]:
    return {"index": index, "id": own_id, "type": "function", "function": {"name": name, "arguments": arguments}}


async def calls_of(*pieces: dict[str, Any]) -> list[ToolCallDelta]:
    """The pieces that come of these, each in a chunk of its own."""
    events, _ = await ask(*streamed(*(chunk(delta={"tool_calls": [piece]}) for piece in pieces), STOP))
    return [call for event in events if isinstance(event, ToolCalls) for call in event.calls]


A, B = '{"x":1}', '{"y":2}'


@pytest.mark.trio
@pytest.mark.parametrize("second", ["g", "f"], ids=["another function", "the same function"])
async def test_whole_calls_that_are_all_numbered_0_are_told_apart_by_their_ids(second: str) -> None:
    assert await calls_of(numbered("a", "f", A), numbered("b", second, B)) == [
        ToolCallDelta(0, "a", "f", A),
        ToolCallDelta(1, "b", second, B),
    ]


@pytest.mark.trio
async def test_calls_that_are_all_numbered_0_may_come_in_pieces() -> None:
    rest = {"index": 0, "function": {"arguments": B}}
    pieces = (numbered("a", "f", ""), numbered("a", "", A), numbered("b", "g", ""), rest, numbered("a", "f", " "))
    assert await calls_of(*pieces) == [
        ToolCallDelta(0, "a", "f"),
        ToolCallDelta(0, arguments=A),
        ToolCallDelta(1, "b", "g"),
        ToolCallDelta(1, arguments=B),
        ToolCallDelta(0, arguments=" "),
    ]


@pytest.mark.trio
@pytest.mark.parametrize("name", ["f", ""], ids=["named again", "named once"])
async def test_a_new_id_for_each_piece_makes_no_new_call(name: str) -> None:
    pieces = ["{", '"x":{"y":1}', "}", ""]
    following = [numbered(f"id{place}", name, piece) for place, piece in enumerate(pieces)]
    found = await calls_of(numbered("a", "f", ""), *following)
    assert found == [ToolCallDelta(0, "a", "f"), *(ToolCallDelta(0, arguments=piece) for piece in pieces)]


@pytest.mark.trio
@pytest.mark.parametrize(("first", "second"), [("", "b"), ("a", "")], ids=["the first", "the second"])
async def test_only_two_ids_tell_calls_of_one_index_apart(first: str, second: str) -> None:
    assert await calls_of(numbered(first, "f", A), numbered(second, "f", B)) == [
        ToolCallDelta(0, first, "f", A),
        ToolCallDelta(0, arguments=B),
    ]


@pytest.mark.trio
async def test_what_was_held_back_of_a_call_comes_at_the_end_though_another_began() -> None:
    halved = b'data: {"choices":[{"delta":{"tool_calls":[%b]}}]}\n\n'
    halved %= b'{"index":0,"id":"a","function":{"name":"f","arguments":"\xc3"}}'
    script = streamed(halved, chunk(delta={"tool_calls": [numbered("b", "g", B)]}), STOP)
    events, _ = await ask(*script)
    assert events[-2:] == [ToolCalls((ToolCallDelta(0, arguments="\ufffd"),)), Finish("stop")]


@pytest.mark.trio
async def test_calls_that_are_all_numbered_0_are_not_too_many_either() -> None:
    calls = [numbered(f"id{place}", "f", "{}") for place in range(129)]
    assert "128" in str(await failure(*streamed(chunk(delta={"tool_calls": calls}), STOP)))
