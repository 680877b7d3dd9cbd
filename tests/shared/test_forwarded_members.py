"""What a node gets of a message, a tool, a format: the members that are listed, nulls left out, schemas as they are."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_shared.commitments import forwarded_part

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": null}'}}


def message(**members: Any) -> dict[str, Any]:
    """What a node gets of one message."""
    (found,) = forwarded_part({"messages": [members]})["messages"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    "strange",
    [
        {"name": None},
        {"tool_call_id": None},
        {"tool_call_id": "c1"},
        {"tool_calls": [{"a": 1}]},
        {"reasoning_content": None},
        {"reasoning_content": 5},
        {"refusal": None},
        {"function_call": {"name": "f"}},
        {"audio": {"id": "a"}},
    ],
)
@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_a_node_gets_role_content_and_name_of_what_is_said_to_a_model(role: str, strange: dict[str, Any]) -> None:
    assert message(role=role, content="hi", **strange) == {"role": role, "content": "hi"}
    assert message(role=role, content="hi", **{**strange, "name": "ann"}) == {
        "role": role,
        "content": "hi",
        "name": "ann",
    }


def test_a_node_gets_the_calls_of_an_assistant_and_the_call_that_a_tool_answers() -> None:
    said = {"role": "assistant", "tool_calls": [CALL]}
    strange = {"index": 0, "function": {**CALL["function"], "parsed_arguments": None}}  # type: ignore[dict-item]
    sent = message(**said, content=None, refusal=None, audio=None, function_call=None, annotations=[], tool_call_id="c")
    assert sent == said
    assert message(role="assistant", tool_calls=[{**CALL, **strange}]) == said
    answered = {"role": "tool", "content": "4", "tool_call_id": "c1"}
    assert message(**answered, name=None, tool_calls=[CALL]) == answered


def test_nulls_and_unknown_members_of_a_part_stay_away_from_nodes() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png,x", "detail": None, "id": 5}}
    text = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}, "annotations": None}
    assert message(role="user", content=[text, picture])["content"] == [
        {"type": "text", "text": "hi"},
        {"type": "image_url", "image_url": {"url": "data:image/png,x"}},
    ]


def test_nulls_of_a_tool_and_of_a_format_are_left_out_and_those_of_a_schema_stay() -> None:
    schema = {"enum": [None, 1], "const": None, "properties": {"a": {"default": None, "type": ["string", "null"]}}}
    function = {"name": "f", "description": None, "parameters": schema, "strict": None, "x": 1}
    bare = {"name": "g", "parameters": None}
    tools = [{"type": "function", "function": one, "cache_control": None} for one in (function, bare)]
    form = {"type": "json_schema", "json_schema": {"name": "s", "description": None, "schema": schema, "strict": None}}
    body = {"tools": tools, "response_format": form, "tool_choice": {**tools[1], "x": None}}
    assert forwarded_part(body) == {
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": schema}},
            {"type": "function", "function": {"name": "g"}},
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
        "tool_choice": {"type": "function", "function": {"name": "g"}},
    }


def test_what_an_assistant_refused_to_say_goes_to_a_node_as_text() -> None:
    assert message(role="assistant", content=None, refusal="no") == {"role": "assistant", "content": "no"}
    assert message(role="assistant", content="", refusal="no") == {"role": "assistant", "content": "no"}
    parts = [{"type": "text", "text": "well"}, {"type": "refusal", "refusal": "no"}]
    told = [{"type": "text", "text": "well"}, {"type": "text", "text": "no"}]
    assert message(role="assistant", content=parts) == {"role": "assistant", "content": told}
    called = message(role="assistant", refusal="no", tool_calls=[CALL])
    assert called == {"role": "assistant", "content": "no", "tool_calls": [CALL]}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "refusal", "function", "x"]), inner, max_size=4)
    ),
)
FIELDS = st.sampled_from(["messages", "tools", "tool_choice", "response_format", "stop"])
ROLES = st.sampled_from(["user", "assistant", "tool"])
MESSAGES = st.lists(st.fixed_dictionaries({"role": ROLES | JSON, "content": JSON}), max_size=3)


@given(st.dictionaries(FIELDS, JSON | MESSAGES))
def test_any_request_has_a_part_that_is_forwarded_whose_own_part_is_itself(body: dict[str, Any]) -> None:
    part = forwarded_part(body)
    assert forwarded_part(part) == part
