"""Every shape in which an answer comes leads to the one commitment that its receipt has."""

import array
import base64
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_shared.answers import choices_of_answer, choices_of_stream, embeddings_content
from pinaivu_shared.commitments import canonical_choices, response_commitment
from pinaivu_shared.errors import UnreadableError
from pinaivu_shared.sse import data_events

SALT = bytes(32)
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
CALLED = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": []}


def committed(*choices: dict[str, Any]) -> str:
    return response_commitment(choices, SALT)


def choice(content: str, finish_reason: str = "stop", *, index: int = 0, calls: tuple[Any, ...] = ()) -> dict[str, Any]:
    message = {"role": "assistant", "content": content} | ({"tool_calls": list(calls)} if calls else {})
    return {"index": index, "message": message, "finish_reason": finish_reason}


def spoken(*texts: str) -> dict[str, Any]:
    parts = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": parts}


def response(*output: dict[str, Any], incomplete: str = "") -> dict[str, Any]:
    status = "incomplete" if incomplete else "completed"
    details = {"reason": incomplete} if incomplete else None
    return {"object": "response", "id": "r", "status": status, "incomplete_details": details, "output": list(output)}


def embeddings(*vectors: str | list[float]) -> dict[str, Any]:
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 4, "total_tokens": 4}}


CHAT = {"object": "chat.completion", "choices": [{**choice("Hi"), "logprobs": None}], "usage": {"total_tokens": 2}}
TEXT = {"object": "text_completion", "choices": [{"index": 0, "text": "Hi", "logprobs": None, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    "answer",
    [CHAT, {"choices": CHAT["choices"]}, TEXT, response(spoken("Hi")), response(REASONING, spoken("H", "i"))],
    ids=["chat", "choices alone", "text", "response", "response in parts"],
)
def test_the_same_words_commit_alike_in_every_shape(answer: dict[str, Any]) -> None:
    assert response_commitment(choices_of_answer(answer), SALT) == committed(choice("Hi"))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (response(CALLED), choice("", "tool_calls", calls=(CALL,))),
        (response(spoken("I call."), CALLED), choice("I call.", "tool_calls", calls=(CALL,))),
        (response(spoken("Long"), incomplete="max_output_tokens"), choice("Long", "length")),
        ({**response(CALLED), "finish_reason": "stop"}, choice("", "stop", calls=(CALL,))),
        (response(CALLED, incomplete="max_output_tokens"), choice("", "length", calls=(CALL,))),
        (response(incomplete="content_filter"), choice("", "content_filter")),
    ],
    ids=["call", "words and call", "length", "forced call", "call cut short", "filter"],
)
def test_the_output_of_a_response_is_one_choice(answer: dict[str, Any], expected: dict[str, Any]) -> None:
    assert response_commitment(choices_of_answer(answer), SALT) == committed(expected)


def test_the_order_of_choices_does_not_matter_and_their_index_does() -> None:
    first, second = choice("one"), choice("two", index=1)
    answer = {"object": "chat.completion", "choices": [second, first]}
    assert response_commitment(choices_of_answer(answer), SALT) == committed(first, second)
    assert committed(choice("two"), choice("one", index=1)) != committed(first, second)


def test_embeddings_are_one_choice_whose_content_is_the_array_of_their_base64() -> None:
    """1.0 is 3f800000 and -2.5 is c0200000, the lowest byte first."""
    vector = base64.b64encode(bytes.fromhex("0000803f000020c0")).decode()
    expected = canonical_choices([choice(f'["{vector}","{vector}"]')])
    assert canonical_choices(choices_of_answer(embeddings(vector, [1.0, -2.5]))) == expected
    assert canonical_choices(choices_of_answer(embeddings([1, -2.5], vector))) == expected
    assert embeddings_content([vector, vector]) == expected[0]["message"]["content"]


def test_embeddings_are_in_the_order_of_their_index() -> None:
    answer = embeddings("AAAAAA==", "AACAPw==")
    expected = choices_of_answer(answer)
    answer["data"].reverse()
    assert choices_of_answer(answer) == expected
    assert choices_of_answer(embeddings("AACAPw==", "AAAAAA==")) != expected


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.lists(FLOATS, max_size=20), max_size=5))
def test_vectors_in_base64_and_in_numbers_commit_alike(vectors: list[list[float]]) -> None:
    """Numbers go through JSON, as they come to a caller."""
    packed = []
    for vector in vectors:
        numbers = array.array("f", vector)
        if sys.byteorder == "big":
            numbers.byteswap()
        packed.append(base64.b64encode(numbers.tobytes()).decode())
    spelled = json.loads(json.dumps(embeddings(*vectors)))
    assert choices_of_answer(spelled) == choices_of_answer(embeddings(*packed))


def test_numbers_that_were_shortened_to_nine_digits_commit_alike() -> None:
    """Nine significant digits tell any two numbers of 32 bits apart."""
    third = array.array("f", [1 / 3])[0]
    assert choices_of_answer(embeddings([float(f"{third:.9g}")])) == choices_of_answer(embeddings([third]))
    assert choices_of_answer(embeddings([math.nextafter(third, 1)])) == choices_of_answer(embeddings([third]))


@pytest.mark.parametrize(
    "answer",
    [
        None, 1, "Hi", [], [choice("Hi")], {}, {"error": {"message": "no"}}, {"object": "file"}, {"object": 7},
        {"object": "chat.completion", "choices": None}, {"choices": [{"index": "0", "message": {}}]},
        {"choices": [{"index": 0, "message": "Hi"}]}, {"choices": ["Hi"]},
        {"object": "text_completion", "choices": [{"index": 0, "text": None}]},
        {"object": "list", "data": [{"id": "pinaivu-tiny", "object": "model"}]},
        embeddings([1e39]), embeddings([10**400]), embeddings(["x"]), embeddings(None), embeddings({"a": 1}),  # type: ignore[arg-type,list-item]
        {**response(), "status": "failed"}, {**response(), "status": "in_progress"}, response(incomplete="boredom"),
        response({"type": "function_call"}), {"object": "response"}, {**response(), "finish_reason": "length"},
        {"object": "list", "data": [{"index": 0, "embedding": "AAAAAA=="}, {"index": 2, "embedding": "AACAPw=="}]},
        {"object": "list", "data": [{"index": 0, "embedding": "AAAAAA=="}, {"index": 0, "embedding": "AACAPw=="}]},
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_answer_cannot_be_read(answer: object) -> None:
    with pytest.raises(UnreadableError, match="answer: "):
        choices_of_answer(answer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["object", "choices", "index", "message", "text", "data", "embedding", "output", "type", "status"]
            ),
            inner | st.sampled_from(["chat.completion", "text_completion", "list", "response", "message", "completed"]),
            max_size=4,
        )
    ),
)


@given(JSON)
def test_whatever_json_there_is_has_choices_or_cannot_be_read(answer: object) -> None:
    try:
        choices = choices_of_answer(answer)
    except UnreadableError:
        return
    assert all(set(one) == {"index", "message", "finish_reason"} for one in choices)
    assert len(canonical_choices(choices)) == len(choices)


def stream(*events: dict[str, Any], named: bool = False) -> Iterator[dict[str, Any]]:
    names = [f"event: {one['type']}\n" if named else "" for one in events]
    lines = (f"{name}data: {json.dumps(one)}\n\n" for name, one in zip(names, events, strict=True))
    return data_events("".join(lines) + "data: [DONE]\n\n")


def chunk(index: int, **fields: Any) -> dict[str, Any]:
    return {"object": "chunk", "choices": [{"index": index, "finish_reason": None, **fields}]}


def test_chunks_of_several_choices_come_in_any_order() -> None:
    chunks = stream(
        chunk(1, delta={"role": "assistant", "content": "tw"}),
        chunk(0, delta={"content": "one"}),
        chunk(1, delta={"content": "o"}),
        chunk(1, delta={}, finish_reason="length"),
        chunk(0, delta={}, finish_reason="stop"),
        {"choices": [], "usage": {"prompt_tokens": 1}},
    )
    assert response_commitment(choices_of_stream(chunks), SALT) == committed(
        choice("one"), choice("two", "length", index=1)
    )


def test_chunks_of_a_text_completion_have_their_text_for_content() -> None:
    chunks = stream(chunk(0, text="H"), chunk(0, text="i"), chunk(0, text="", finish_reason="stop"))
    assert response_commitment(choices_of_stream(chunks), SALT) == committed(choice("Hi"))


@pytest.mark.parametrize("ended", ["completed", "incomplete"])
def test_the_stream_of_a_response_ends_with_the_whole_of_it(ended: str) -> None:
    whole = response(spoken("Hi"), incomplete="max_output_tokens" if ended == "incomplete" else "")
    events = stream(
        {"type": "response.created", "response": {**whole, "status": "in_progress", "output": []}},
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"type": f"response.{ended}", "response": whole},
        named=True,
    )
    assert choices_of_stream(events) == choices_of_answer(whole)


@pytest.mark.parametrize(
    "events",
    [
        [], [7], [{"error": {"message": "no"}}], [{"choices": None}], [{"choices": [{}]}],
        [chunk(0, delta={"content": 7})], [chunk(0, delta={"tool_calls": [{"index": 5}]})],
        [{"type": "response.failed", "response": response()}],
        [{"type": "response.completed"}],
    ],
    ids=repr,
)  # fmt: skip
def test_a_stream_that_has_no_answer_cannot_be_read(events: list[Any]) -> None:
    with pytest.raises(UnreadableError, match="answer: "):
        choices_of_stream(stream(*events))
