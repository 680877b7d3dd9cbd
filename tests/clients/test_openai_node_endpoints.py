"""The unmodified openai SDK for Node beyond single chats: embeddings, completions, responses, and several choices."""

import json
from typing import Any

import pytest
from tests.clients.conftest import TEXT
from tests.clients.javascript import reported
from tests.network.conftest import Description

from pinaivu_node.engines.echo_embeddings import DIMENSIONS, unit_vector


@pytest.fixture(scope="module")
def found(network: Description, deserted: Description) -> dict[str, Any]:
    return reported("openai_endpoints.mjs", network, deserted)


def vectors_of(answer: dict[str, Any]) -> list[Any]:
    return [one["embedding"] for one in answer["data"]]


def test_every_text_gets_a_vector_in_whichever_form(found: dict[str, Any]) -> None:
    vectors = vectors_of(found["embeddings"])
    assert vectors == vectors_of(found["embeddingsAsFloat"])
    assert vectors == [pytest.approx(unit_vector(text, DIMENSIONS), abs=1e-6) for text in (TEXT, "another")]
    assert all(isinstance(vector, str) for vector in vectors_of(found["embeddingsAsBase64"]))
    assert found["embeddings"]["usage"]["total_tokens"] == len(TEXT.split()) + 1


def test_dimensions_are_asked_for(found: dict[str, Any]) -> None:
    assert [len(vector) for vector in vectors_of(found["dimensions"])] == [7]


def test_a_prompt_is_continued_streamed_and_not(found: dict[str, Any]) -> None:
    (choice,) = found["completion"]["choices"]
    assert (choice["text"], choice["finish_reason"]) == (TEXT, "stop")
    *chunks, last = found["completionStream"]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == TEXT
    assert (last["choices"], last["usage"]) == ([], found["completion"]["usage"])


@pytest.mark.parametrize("case", ["choices", "choicesStream"])
def test_several_choices_stand_side_by_side(found: dict[str, Any], case: str) -> None:
    shown = [(one["index"], one["message"]["content"], one["finish_reason"]) for one in found[case]["choices"]]
    assert shown == [(0, "one two", "stop"), (1, "twoone ", "stop")]
    assert found[case]["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize("case", ["logprobs", "logprobsStream"])
def test_log_probabilities_come_with_each_token(found: dict[str, Any], case: str) -> None:
    tokens = found[case]["choices"][0]["logprobs"]["content"]
    assert [(one["token"], len(one["top_logprobs"])) for one in tokens] == [("one ", 2), ("two", 2)]


def test_a_response_is_the_engines(found: dict[str, Any]) -> None:
    assert (found["response"]["output_text"], found["response"]["status"]) == (TEXT, "completed")


def test_a_stream_ends_in_the_whole_response(found: dict[str, Any]) -> None:
    stream = found["responseStream"]
    assert stream["text"] == stream["final"]["output_text"] == TEXT
    assert stream["final"]["usage"] == found["response"]["usage"]


def test_a_structured_response_is_parsed(found: dict[str, Any]) -> None:
    assert found["parsed"] == {"city": "Zürich"}


@pytest.mark.parametrize("case", ["call", "streamedCall"])
def test_a_function_is_called_and_its_output_understood(found: dict[str, Any], case: str) -> None:
    call = found[case]["call"]
    assert (call["type"], call["name"], json.loads(call["arguments"])) == (
        "function_call",
        "weather",
        {"city": "Zürich"},
    )
    assert found[case]["answer"] == "rain"


@pytest.mark.parametrize("case", ["brokenOff", "brokenOffHelper", "brokenOffCompletion"])
def test_an_answer_that_breaks_off_is_an_error_and_no_end(found: dict[str, Any], case: str) -> None:
    thrown = found[case]["thrown"]
    assert (thrown["class"], thrown["code"]) == ("APIError", "node_failed")
    assert "the node failed" in thrown["message"]


@pytest.mark.parametrize(
    ("case", "param", "text"),
    [
        ("former", "previous_response_id", "no responses are kept here"),
        ("severalPrompts", "prompt", "send a request for each"),
        ("withoutVectors", "model", "embeddings"),
    ],
)
def test_what_is_not_served_is_a_bad_request(found: dict[str, Any], case: str, param: str, text: str) -> None:
    thrown = found[case]["thrown"]
    assert (thrown["class"], thrown["param"]) == ("BadRequestError", param)
    assert text in thrown["message"]
