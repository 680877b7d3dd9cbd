"""What a request may say: accepted, 422 with the field named, 400 where it makes no sense, never anything else."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage
from tests.host.shape import check_shape
from tests.host.town import Town, request

from pinaivu_host.gateway.body import parse_object
from pinaivu_host.gateway.chat import read_chat
from pinaivu_host.gateway.error_table import INVALID_VALUE, MISSING_FIELD
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.order import Order, canonical_form, make_order, new_request_id
from pinaivu_host.store.accounts import Caller
from pinaivu_host.store.api_keys import KeyTerms
from pinaivu_shared.wire.link import OpenJob

CALLER = Caller("acct_x", 1, disabled=False, terms=KeyTerms(name="", permission="full"), key_id="key_0")


def order(raw: bytes) -> Order:
    """Do what the chat endpoint does with a body, up to the auction."""
    body = parse_object(raw)
    ask = read_chat(body)
    return make_order(new_request_id(), canonical_form(body), ask, CALLER)


def refused(fields: dict[str, Any]) -> ApiError:
    """The error of a request with these fields changed."""
    with pytest.raises(ApiError) as caught:
        order(json.dumps(request(**fields)).encode())
    return caught.value


def test_keys_of_other_endpoints_are_ignored_and_reach_no_node() -> None:
    """A node takes a body with two of them for none that it can run."""
    body = request(prompt="p", input=["i"], temperature=1)
    forwarded = json.loads(order(json.dumps(body).encode()).forwarded)
    assert forwarded == {name: value for name, value in body.items() if name in {"model", "messages", "temperature"}}


def test_no_null_and_no_unknown_member_of_a_message_or_a_tool_reaches_a_node() -> None:
    """Some engines refuse them (llama.cpp), and the node would be blamed."""
    strange = {"name": None, "tool_call_id": None, "tool_calls": [{"a": 1}], "reasoning_content": 5}
    tool = {"type": "function", "function": {"name": "f", "description": None, "parameters": None, "strict": None}}
    body = request(messages=[{"role": "user", "content": "hi", **strange}], tools=[tool])
    forwarded = json.loads(order(json.dumps(body).encode()).forwarded)
    assert forwarded["messages"] == [{"role": "user", "content": "hi"}]
    assert forwarded["tools"] == [{"type": "function", "function": {"name": "f"}}]


def test_a_history_with_a_refusal_as_the_openai_sdk_writes_it_reaches_a_node_as_text() -> None:
    refused_answer = ChatCompletionMessage(role="assistant", content=None, refusal="I can't do that.")
    history = [{"role": "user", "content": "x"}, refused_answer.model_dump(exclude_none=True)]
    parts = {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
    body = request(messages=[*history, parts, {"role": "user", "content": "why?"}])
    _, *told, _ = json.loads(order(json.dumps(body).encode()).forwarded)["messages"]
    assert told == [
        {"role": "assistant", "content": "I can't do that."},
        {"role": "assistant", "content": [{"type": "text", "text": "no"}]},
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "x" * 100_000, "content": "a"}]},
        {"tool_choice": {"type": "x" * 100_000}},
        {"response_format": {"type": "x" * 100_000}},
    ],
    ids=["role", "tool_choice", "response_format"],
)
def test_an_error_repeats_little_of_what_was_sent(fields: dict[str, Any]) -> None:
    error = refused(fields)
    assert error.kind is INVALID_VALUE
    assert len(error.body("req")) < 4096


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": [{"content": "x"}]}, "messages.0.role: Field required"),
        (
            {"messages": [{"role": "wizard"}]},
            "messages.0.role: Input should be one of 'system', 'developer', 'user', 'assistant', 'tool', 'function'",
        ),
        ({"messages": ["hi"]}, "messages.0: Input should be an object"),
        ({"stream_options": True}, "stream_options: Input should be an object"),
        (
            {"response_format": {"type": "json_schema", "json_schema": 5}},
            "response_format.json_schema: Input should be an object",
        ),
        ({"tool_choice": {}}, "tool_choice.type: Field required; tool_choice.function: Field required"),
    ],
)
def test_a_fault_is_told_in_the_words_of_the_api(fields: dict[str, Any], message: str) -> None:
    assert refused(fields).message == message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"stream": "maybe"}, "stream"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": []}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop.1"),
        ({"stop": 5}, "stop"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": "json_object"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {}}, "tool_choice.type"),
        ({"tool_choice": {"type": "magic"}}, "tool_choice.type"),
        ({"tool_choice": {"type": {}}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "magic"}]}, "tools.0.type"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": 5, "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": ["hi"]}, "messages.0"),
        ({"messages": [{"role": "user", "content": [{"type": "magic"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages.0"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1", "name": 5}]}, "messages.0.name"),
        ({"messages": [{"role": "user", "content": "x", "name": 5}]}, "messages.0.name"),
        ({"messages": [{"role": "assistant", "content": "x", "refusal": 5}]}, "messages.0.refusal"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"a": 1}]}]}, "messages.0.tool_calls.0.id"),
        ({"messages": [{"role": "function", "name": "f", "content": None}]}, "messages.0.content"),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": 1}}]}, "tools.0.function.strict"),
        ({"messages": [{"role": "system", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"seed": 1.5}, "seed"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
    ],
)
def test_fields_that_are_wrong_are_422_and_named(fields: dict[str, Any], param: str) -> None:
    error = refused(fields)
    kind = MISSING_FIELD if error.detail[0].type == "missing" else INVALID_VALUE
    assert (error.kind, error.param) == (kind, param)
    assert error.message.startswith(param + ": ")
    assert all(fault.loc[0] == "body" for fault in error.detail)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"stream_options": {"include_usage": True}}, "invalid_request", "stream_options"),
        ({"stream": False, "stream_options": {}}, "invalid_request", "stream_options"),
        ({"top_logprobs": 2}, "invalid_request", "top_logprobs"),
        ({"n": 9}, "unsupported_parameter", "n"),
        ({"logit_bias": {"5": 1}}, "unsupported_parameter", "logit_bias"),
        ({"functions": []}, "unsupported_parameter", "functions"),
        ({"function_call": "auto"}, "unsupported_parameter", "function_call"),
        ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities"),
        ({"audio": {}}, "unsupported_parameter", "audio"),
        ({"web_search_options": {}}, "unsupported_parameter", "web_search_options"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "unsupported_parameter", "tools"),
        ({"tool_choice": {"type": "custom"}}, "unsupported_parameter", "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "invalid_request", "tool_choice"),
        ({"tool_choice": "required"}, "invalid_request", "tool_choice"),
        (
            {"messages": [{"role": "assistant", "content": "x", "refusal": "no"}]},
            "invalid_request",
            "messages.0.refusal",
        ),
    ],
)
def test_what_makes_no_sense_here_is_400(fields: dict[str, Any], code: str, param: str) -> None:
    error = refused(fields)
    assert (error.kind.status, error.kind.code, error.param) == (400, code, param)


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, "unsupported_image_url"),
        ({"type": "input_audio", "input_audio": {}}, "unsupported_parameter"),
        ({"type": "file", "file": {}}, "unsupported_parameter"),
    ],
)
def test_parts_that_no_node_takes_are_400(part: dict[str, Any], code: str) -> None:
    error = refused({"messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, part]}]})
    assert (error.kind.status, error.kind.code, error.param) == (400, code, "messages.0.content")


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 16.0},
        {"temperature": None, "stop": None, "tools": None, "n": None, "stream": None, "logit_bias": {}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        {"messages": [{"role": "developer", "content": "x", "name": None}, {"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,x"}}]}]},
        {
            "messages": [
                {"role": "user", "content": "x"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "content": "4", "tool_call_id": "1"},
            ]
        },
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
        {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
        },
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}},
        {"stop": "x", "seed": 5, "user": "me", "store": True, "unheard_of": {"a": [None, 1.5]}},
        {"modalities": ["text"], "reasoning_effort": "low", "verbosity": "low"},
    ],
)
def test_what_clients_really_send_is_accepted(fields: dict[str, Any]) -> None:
    order(json.dumps(request(**fields)).encode())


@pytest.mark.anyio
async def test_a_wrong_request_never_comes_to_auction(town: Town) -> None:
    await town.node()
    check_shape(await town.chat(temperature=3), 422, "invalid_request_error", "invalid_value")
    check_shape(await town.chat(n=9), 400, "invalid_request_error", "unsupported_parameter")
    assert not town.enclave.all_of(OpenJob)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_names = st.sampled_from(
    [
        "model",
        "messages",
        "stream",
        "stop",
        "tools",
        "tool_choice",
        "n",
        "response_format",
        "max_tokens",
        "logit_bias",
        "stream_options",
        "temperature",
        "seed",
        "functions",
        "modalities",
        "x",
    ]
)
_messages = st.lists(
    st.fixed_dictionaries(
        {}, optional={"role": st.sampled_from(["user", "assistant", "tool", "x"]) | _json, "content": _json}
    ),
    max_size=3,
)
_bodies = st.dictionaries(_names, _json | _messages, max_size=6).map(lambda body: {"model": "m", **body})


def read_order(raw: bytes) -> None:
    """An order, or an error that is the caller's."""
    try:
        order(raw)
    except ApiError as caught:
        error = caught
    else:
        return
    assert error.kind.status in {400, 422}
    assert json.loads(error.body("req_x"))["error"]["message"]


@given(st.one_of(st.binary(max_size=200), _bodies.map(lambda body: json.dumps(body).encode())))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_body_is_an_order_or_the_callers_error(raw: bytes) -> None:
    read_order(raw)


@given(st.data())
@settings(deadline=None)
def test_a_good_body_with_one_byte_changed_is_an_order_or_the_callers_error(data: st.DataObject) -> None:
    good = json.dumps(request(temperature=0.5, stop=["a"], tools=[], stream_options={"include_usage": True})).encode()
    place = data.draw(st.integers(0, len(good) - 1))
    read_order(good[:place] + bytes([data.draw(st.integers(0, 255))]) + good[place + 1 :])
