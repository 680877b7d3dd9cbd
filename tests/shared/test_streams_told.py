"""A verifier reads a stream as its client did: who shows one thing and commits to another is found out."""

import json
from typing import Any

import pytest

from pinaivu_shared.answers import choices_of_answer, choices_of_stream
from pinaivu_shared.errors import UnreadableError
from pinaivu_shared.sse import data_events

TEXT = {"type": "message", "content": [{"type": "output_text", "text": "Hi you"}]}
CALL = {"type": "function_call", "call_id": "c1", "name": "pay", "arguments": '{"to":"Ann"}'}
WHOLE = {"object": "response", "status": "completed", "output": [TEXT, CALL]}
END = {"type": "response.completed", "response": WHOLE}


def text_delta(text: str, *, output_index: int = 0) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "output_index": output_index, "content_index": 0, "delta": text}


def arguments_delta(text: str) -> dict[str, Any]:
    return {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": text}


def item(kind: str, index: int, shown: dict[str, Any]) -> dict[str, Any]:
    return {"type": f"response.output_item.{kind}", "output_index": index, "item": shown}


PIECES = [
    {"type": "response.created", "response": {**WHOLE, "status": "in_progress", "output": []}},
    item("added", 0, {"type": "message", "content": []}),
    text_delta("Hi "),
    text_delta("you"),
    item("added", 1, {**CALL, "arguments": ""}),
    arguments_delta('{"to":'),
    arguments_delta('"Ann"}'),
    {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "Hi you"},
    item("done", 0, TEXT),
    {"type": "response.function_call_arguments.done", "output_index": 1, "arguments": '{"to":"Ann"}'},
    item("done", 1, CALL),
]


@pytest.mark.parametrize("pieces", [PIECES, []], ids=["all", "only the end"])
def test_pieces_that_say_what_the_response_says_are_read(pieces: list[dict[str, Any]]) -> None:
    assert choices_of_stream([*pieces, END]) == choices_of_answer(WHOLE)


@pytest.mark.parametrize(
    "events",
    [
        [*PIECES, text_delta("!"), END],
        [*PIECES[:3], *PIECES[4:], END],
        [*PIECES, text_delta("Hi you", output_index=1), END],
        [*PIECES, text_delta("more", output_index=2), END],
        [*PIECES, arguments_delta(" "), END],
        [*PIECES, {**PIECES[7], "text": "Hi"}, END],
        [*PIECES, {**PIECES[9], "arguments": "{}"}, END],
        [*PIECES, item("added", 1, {**CALL, "name": "steal"}), END],
        [*PIECES, item("done", 1, {**CALL, "arguments": "{}"}), END],
        [*PIECES, {"choices": [{"index": 0, "delta": {"content": "Hi all"}}]}, END],
        [*PIECES, END, text_delta("!")],
        [*PIECES, END, END],
        [text_delta("Hi you"), END],
    ],
)
def test_pieces_that_say_anything_else_than_the_response_are_refused(events: list[dict[str, Any]]) -> None:
    with pytest.raises(UnreadableError, match="answer: "):
        choices_of_stream(events)


def test_a_stream_of_chunks_is_of_a_chat_or_of_a_completion() -> None:
    chat = {"choices": [{"index": 0, "delta": {"content": "Yes"}}]}
    text = {"choices": [{"index": 0, "delta": {}, "text": ", but no"}]}
    assert choices_of_stream([chat])[0]["message"]["content"] == "Yes"
    with pytest.raises(UnreadableError, match="one stream"):
        choices_of_stream([chat, text])


@pytest.mark.parametrize(
    "text",
    ['data: {"a":1}\n\ndata: [DONE]\n\ndata: {"b":2}\n\n', ': comment\rdata: {"b":2}\n\n', 'data: {"a":1}\r\r\n'],
    ids=["after the end", "in a comment", "twice"],
)
def test_what_clients_see_and_a_verifier_would_not_is_no_stream(text: str) -> None:
    with pytest.raises(ValueError, match=r"DONE|carriage"):
        list(data_events(text))


def test_lines_end_in_cr_lf_as_well() -> None:
    event = {"a": "\u2028"}
    lines = f"data: {json.dumps(event, ensure_ascii=False)}\r\n\r\ndata: [DONE]\r\n\r\n"
    assert list(data_events(lines)) == [event]
