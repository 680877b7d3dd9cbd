"""Commitments: canonical, salted, equal for a streamed and an unstreamed answer."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_shared.canonical import parse_json
from pinaivu_shared.commitments import (
    canonical_bytes,
    forwarded_part,
    request_commitment,
    response_commitment,
)
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.sse import assemble_choices, data_events

SALT = bytes(32)
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "tlog" / "jcs.json").read_text())


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_the_canonical_form_is_that_of_rfc_8785(case: dict[str, Any]) -> None:
    if case["canonical"] is None:
        with pytest.raises((ValueError, VerificationError)):
            canonical_bytes(parse_json(case["input"]))
    else:
        assert canonical_bytes(parse_json(case["input"])).decode() == case["canonical"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.characters(codec=None),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["\U0001f600", "\uffff", "a"]), inner),
)


@given(JSON)
def test_whatever_writes_it_the_canonical_form_is_the_same(value: Any) -> None:
    try:
        expected = rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:
        with pytest.raises(VerificationError, match="no canonical form"):
            canonical_bytes(value)
    else:
        assert canonical_bytes(value) == expected


def test_every_character_is_escaped_as_rfc_8785_has_it() -> None:
    for character in map(chr, range(0x2100)):
        assert canonical_bytes({character: character}) == rfc8785.dumps({character: character})


def test_numbers_that_are_equal_commit_alike() -> None:
    assert request_commitment({"temperature": 1.0}, SALT) == request_commitment({"temperature": 1}, SALT)


def test_the_salt_hides_the_request() -> None:
    assert request_commitment({"a": 1}, SALT) != request_commitment({"a": 1}, b"\x01" * 32)


def test_a_salt_of_another_length_is_refused() -> None:
    with pytest.raises(VerificationError, match="salt"):
        request_commitment({}, b"short")


def test_identifiers_of_end_users_are_not_forwarded() -> None:
    body = {"model": "m", "messages": [], "user": "u", "metadata": {}, "stream": True, "temperature": None, "x": 1}
    assert forwarded_part(body) == {"model": "m", "messages": []}


@given(st.text(), st.lists(st.integers(0, 30)), st.sampled_from(["stop", "length"]))
def test_a_streamed_and_an_unstreamed_answer_commit_alike(text: str, cuts: list[int], finish: str) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    chunks = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
        *({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in pieces),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
        {"choices": [], "usage": {"prompt_tokens": 1}},
    ]
    stream = "".join(f": ping\n\ndata: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    message = {"role": "assistant", "content": text, "refusal": None}
    whole = [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}]
    assert response_commitment(assemble_choices(data_events(stream)), SALT) == response_commitment(whole, SALT)


def test_tool_calls_split_over_deltas_commit_like_whole_ones() -> None:
    def chunk(**delta: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    streamed = assemble_choices([
        chunk(role="assistant", content=""),
        chunk(tool_calls=[{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"a":'}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": "1}"}}]),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    ])  # fmt: skip
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    whole = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    assert response_commitment(streamed, SALT) == response_commitment(whole, SALT)


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', '{"a":NaN}', '{"a":1e400}', '{"a":"\\ud800"}', '{"a":"\\uDC00"}'])
def test_json_without_a_canonical_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_a_surrogate_pair_is_one_character() -> None:
    assert parse_json('{"a":"\\ud83d\\ude42"}') == {"a": "🙂"}
