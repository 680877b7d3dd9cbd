"""Deltas: whatever an engine says at once, no message is longer than the gateway takes, and nothing is lost."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_node.assembly import Assembly
from pinaivu_node.deltas import LOGPROBS_BYTES_MAX, PIECE_CHARACTERS, deltas_of
from pinaivu_node.engines.events import EngineError, Event, Finish, Text, ToolCalls
from pinaivu_shared.wire.node import MAX_NODE_MESSAGE_BYTES, Delta, ToolCallDelta, decode_from_node, encode

from .market import SALT

REQUEST = "req_" + "0" * 26
LONG = "🌍x" * PIECE_CHARACTERS
TOKEN = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}


def sent(event: Event) -> list[Delta]:
    """The deltas as the gateway gets them, each small enough."""
    messages = [encode(delta) for delta in deltas_of(REQUEST, event)]
    assert max(map(len, messages)) <= MAX_NODE_MESSAGE_BYTES * 3 // 4
    received = [decode_from_node(raw) for raw in messages]
    deltas = [one for one in received if isinstance(one, Delta)]
    assert len(deltas) == len(received)
    return deltas


def told(delta: Delta) -> Any:
    """Its log-probabilities."""
    return msgspec.msgpack.decode(delta.logprobs)


@pytest.mark.parametrize(
    "event",
    [Text("Hi"), ToolCalls((ToolCallDelta(0, "c", "f", "{}"), ToolCallDelta(1, "d", "g"))), Finish("stop")],
    ids=["text", "tool calls", "finish"],
)
def test_an_event_of_the_usual_size_is_one_delta(event: Event) -> None:
    (delta,) = sent(event)
    match event:
        case Text(content=content):
            assert delta == Delta(REQUEST, content)
        case ToolCalls(calls=calls):
            assert delta == Delta(REQUEST, tool_calls=calls)
        case Finish(reason=reason):
            assert delta == Delta(REQUEST, finish_reason=reason)


def test_log_probabilities_stay_the_map_that_the_engine_gave() -> None:
    told_of = {"content": [TOKEN]}
    (delta,) = deltas_of(REQUEST, Text("a", told_of))
    as_one_map = msgspec.msgpack.encode({"type": "Delta", "request_id": REQUEST, "content": "a", "logprobs": told_of})
    assert encode(delta) == as_one_map


@given(st.text(), st.integers(0, 3 * PIECE_CHARACTERS))
def test_text_of_any_length_arrives_whole(some: str, size: int) -> None:
    content = some + LONG[:size]
    assert "".join(delta.content for delta in sent(Text(content))) == content


def test_many_log_probabilities_arrive_whole_beside_their_text() -> None:
    tokens = [{**TOKEN, "token": str(number)} for number in range(20_000)]
    deltas = sent(Text(LONG, {"content": tokens}))
    assert [token for delta in deltas if delta.logprobs for token in told(delta)["content"]] == tokens
    assert "".join(delta.content for delta in deltas) == LONG


def test_tool_calls_of_any_length_arrive_whole() -> None:
    calls = (ToolCallDelta(0, "c", "f", LONG), ToolCallDelta(1, "d", "g", "{}"), ToolCallDelta(0, arguments="}"))
    deltas = sent(ToolCalls(calls))
    whole, cut = Assembly(), Assembly()
    whole.add(Delta(REQUEST, tool_calls=calls))
    for delta in deltas:
        cut.add(delta)
    assert cut.commitment(SALT) == whole.commitment(SALT)
    assert len(deltas) > len(calls)


@pytest.mark.parametrize(
    "event",
    [
        ToolCalls((ToolCallDelta(0, "c", "f" * PIECE_CHARACTERS, "{}"),)),
        Text("a", {"content": [{**TOKEN, "token": "a" * LOGPROBS_BYTES_MAX}]}),
    ],
    ids=["a name", "a token"],
)
def test_what_cannot_be_cut_and_is_too_long_is_the_engines_failure(event: Event) -> None:
    with pytest.raises(EngineError) as caught:
        list(deltas_of(REQUEST, event))
    assert caught.value.reason == "engine_unavailable"
