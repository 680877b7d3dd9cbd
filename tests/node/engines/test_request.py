"""What an engine is asked, and what no engine is."""

from typing import Any, get_args

import pytest

from pinaivu_node.engines.events import EngineError
from pinaivu_node.engines.request import BLANKS_MAX, EngineRequest, engine_request, with_json_grammar
from pinaivu_node.engines.request_kinds import KINDS
from pinaivu_shared.commitments import FORWARDED_FIELDS
from pinaivu_shared.terms import Capability

CHAT: dict[str, Any] = {"model": "theirs", "messages": [{"role": "user", "content": "Hi"}]}
COMPLETION: dict[str, Any] = {"model": "theirs", "prompt": "Once upon"}
EMBEDDING: dict[str, Any] = {"model": "theirs", "input": "Hi"}
ALL = get_args(Capability)
STREAMED = {"model": "ours", "stream": True, "stream_options": {"include_usage": True}}


def asked(body: dict[str, Any], limit: int = 7, capabilities: Any = ALL, **extras: Any) -> EngineRequest:
    return engine_request(body, model="ours", limit=limit, extras=extras, capabilities=capabilities)


def test_a_chat_has_the_allowed_fields_and_the_limit_in_both_names() -> None:
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    stray = {"max_tokens": 999, "guided_json": {}, "user": "somebody"}
    request = asked({**CHAT, "messages": messages, "temperature": 0, **stray}, timings_per_token=True)
    assert request.path == "/v1/chat/completions"
    assert request.body == {
        **STREAMED,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "temperature": 0,
        "max_tokens": 7,
        "max_completion_tokens": 7,
        "timings_per_token": True,
    }


@pytest.mark.parametrize(("wanted", "room"), [("json_object", BLANKS_MAX), ("json_schema", BLANKS_MAX), ("text", 0)])
def test_llama_cpp_has_room_for_blanks_before_wanted_json(wanted: str, room: int) -> None:
    request = asked({**CHAT, "response_format": {"type": wanted}, "n": 2}, limit=14, timings_per_token=True)
    assert (request.limit, request.body["max_tokens"], request.trimmed) == (7, 7 + room, room > 0)
    assert asked({**CHAT, "response_format": {"type": wanted}}).body["max_tokens"] == 7


def test_a_grammar_takes_the_place_of_a_wanted_json_object_only() -> None:
    body = {**CHAT, "response_format": {"type": "json_object"}}
    request = with_json_grammar(asked(body, timings_per_token=True), "root ::= object")
    assert (request.body["grammar"], request.body["max_tokens"], request.trimmed) == ("root ::= object", 7, False)
    assert "response_format" not in request.body
    for other in (asked({**CHAT, "response_format": {"type": "json_schema"}}), asked(CHAT), asked(COMPLETION)):
        assert with_json_grammar(other, "root ::= object") == other


@pytest.mark.parametrize("prompt", ["Once upon", ["Once upon"]])
def test_a_completion_has_one_prompt_and_the_limit_in_the_only_name_it_has(prompt: object) -> None:
    request = asked({**COMPLETION, "prompt": prompt, "stop": ["."], "echo": False, "suffix": "", "tools": []})
    assert request.path == "/v1/completions"
    assert request.body == {**STREAMED, "prompt": "Once upon", "stop": ["."], "max_tokens": 7}


@pytest.mark.parametrize(("texts", "inputs"), [("Hi", 1), (["Hi", "there"], 2)])
def test_embeddings_are_asked_for_as_numbers(texts: object, inputs: int) -> None:
    request = asked({**EMBEDDING, "input": texts, "dimensions": 8, "encoding_format": "base64"}, limit=0)
    assert (request.path, request.inputs, request.dimensions) == ("/v1/embeddings", inputs, 8)
    assert request.body == {"model": "ours", "input": texts, "dimensions": 8, "encoding_format": "float"}


def test_the_choices_share_the_limit_evenly() -> None:
    request = asked({**CHAT, "n": 3}, limit=11)
    assert (request.choices, request.limit, request.body["n"], request.body["max_tokens"]) == (3, 3, 3, 3)


@pytest.mark.parametrize(("wanted", "asked_for"), [({}, 1), ({"top_logprobs": 0}, 1), ({"top_logprobs": 5}, 5)])
def test_one_alternative_at_least_is_asked_for_since_to_llama_cpp_none_is_no_log_probabilities(
    wanted: dict[str, int], asked_for: int
) -> None:
    request = asked({**CHAT, "logprobs": True, **wanted})
    assert (request.top_logprobs, request.body["top_logprobs"]) == (wanted.get("top_logprobs", 0), asked_for)
    assert "top_logprobs" not in asked({**CHAT, "logprobs": False}).body


def test_an_effort_is_a_wish_that_an_engine_without_it_never_sees() -> None:
    body = {**CHAT, "reasoning_effort": "low"}
    assert asked(body).body["reasoning_effort"] == "low"
    assert "reasoning_effort" not in asked(body, capabilities=("chat",)).body


def test_every_field_that_is_forwarded_belongs_to_a_kind() -> None:
    limits = {"model", "max_tokens", "max_completion_tokens"}
    assert limits.union(*(kind.shape.__struct_fields__ for kind in KINDS)) == FORWARDED_FIELDS


@pytest.mark.parametrize(
    ("body", "lacking"),
    [
        (CHAT, "chat"),
        (COMPLETION, "completions"),
        (EMBEDDING, "embeddings"),
        ({**CHAT, "n": 2}, "chat, multiple_choices"),
        ({**CHAT, "logprobs": True}, "chat, logprobs"),
        ({**CHAT, "response_format": {"type": "json_object"}}, "chat, json_object"),
        ({**CHAT, "response_format": {"type": "json_schema"}, "tools": [{}]}, "chat, json_schema, tools"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
            "chat, images",
        ),
        ({**COMPLETION, "n": 2}, "completions, multiple_choices"),
    ],
)
def test_what_a_model_lacks_is_named(body: dict[str, Any], lacking: str) -> None:
    with pytest.raises(EngineError, match=f"does not offer {lacking}$") as caught:
        asked(body, capabilities=())
    assert caught.value.reason == "unsupported_request"
    assert asked(body).body


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"model": "m"}, "exactly one of messages, prompt and input"),
        ({**CHAT, **COMPLETION}, "exactly one of messages, prompt and input"),
        ({**CHAT, "messages": []}, "messages"),
        ({**CHAT, "messages": [{"role": "wizard", "content": "x"}]}, "role"),
        ({**CHAT, "messages": "x"}, "messages"),
        ({**CHAT, "n": 0}, r"\$\.n"),
        ({**CHAT, "n": 129}, r"\$\.n"),
        ({**CHAT, "n": 8}, "7 tokens are too few for 8 choices"),
        ({**CHAT, "temperature": 3}, "temperature"),
        ({**CHAT, "temperature": "1"}, "temperature"),
        ({**CHAT, "top_p": -0.1}, "top_p"),
        ({**CHAT, "top_logprobs": 21}, "top_logprobs"),
        ({**CHAT, "stop": ["a"] * 5}, "stop"),
        ({**COMPLETION, "prompt": ["a", "b"]}, "prompt"),
        ({**COMPLETION, "prompt": [1]}, "prompt"),
        ({**COMPLETION, "echo": True}, "echo or suffix"),
        ({**COMPLETION, "suffix": "end"}, "echo or suffix"),
        ({**EMBEDDING, "input": []}, "input"),
        ({**EMBEDDING, "input": [1, 2]}, "input"),
        ({**EMBEDDING, "dimensions": 0}, "dimensions"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}]},
            "data: URLs",
        ),
    ],
)
def test_a_request_that_no_engine_should_see_is_refused(body: dict[str, Any], named: str) -> None:
    with pytest.raises(EngineError, match=named) as caught:
        asked(body)
    assert caught.value.reason == "unsupported_request"
