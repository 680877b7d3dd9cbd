"""The unmodified openai SDK for Python: embeddings, and completions of a prompt."""

from typing import Any

import openai
import pytest
from tests.clients.conftest import TEXT

from pinaivu_node.engines.echo_embeddings import DIMENSIONS, unit_vector

TEXTS = [TEXT, "another", TEXT]


def vectors_of(answer: openai.types.CreateEmbeddingResponse) -> list[list[float]]:
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return [one.embedding for one in answer.data]


def test_base64_is_what_the_sdk_asks_for_and_float_gives_the_same(client: openai.OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(model="echo", input=TEXTS)
    assert b'"encoding_format":"base64"' in raw.http_request.content
    assert isinstance(raw.http_response.json()["data"][0]["embedding"], str)
    vectors = vectors_of(raw.parse())
    assert vectors == vectors_of(client.embeddings.create(model="echo", input=TEXTS, encoding_format="float"))
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert vector == pytest.approx(unit_vector(text, DIMENSIONS), abs=1e-6)


def test_dimensions_are_asked_for(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="echo", input=TEXT, dimensions=7)
    assert [len(vector) for vector in vectors_of(answer)] == [7]


def test_usage_counts_all_inputs(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="echo", input=TEXTS)
    words = sum(len(text.split()) for text in TEXTS)
    assert (answer.model, answer.object) == ("echo", "list")
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (words, words)


def test_a_model_without_vectors_is_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="embeddings") as caught:
        client.embeddings.create(model="caller", input=TEXT)
    assert caught.value.request_id is not None


def test_token_ids_are_refused_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="must be text") as caught:
        client.embeddings.create(model="echo", input=[1, 2, 3])
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "input")


def test_a_prompt_is_continued(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="echo", prompt=TEXT)
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason, answer.object) == (TEXT, "stop", "text_completion")
    assert answer.usage is not None
    words = len(TEXT.split())
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (words, words)


def test_a_continued_prompt_is_streamed_with_the_same_usage(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    whole = client.completions.create(model="echo", prompt=TEXT)
    stream = client.completions.create(model="echo", prompt=TEXT, stream=True, stream_options=options)
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert (last.choices, last.usage) == ([], whole.usage)


def test_several_continuations_stand_side_by_side(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="echo", prompt="one two", n=2)
    assert [(choice.index, choice.text) for choice in whole.choices] == [(0, "one two"), (1, "twoone ")]
    texts = ["", ""]
    for chunk in client.completions.create(model="echo", prompt="one two", n=2, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in whole.choices]


def test_max_tokens_ends_a_continuation_with_length(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="echo", prompt=TEXT, max_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


def test_a_continuation_that_breaks_off_is_an_error_and_no_end(client: openai.OpenAI) -> None:
    chunks: list[Any] = []
    stream = client.completions.create(model="breaks", prompt=TEXT, stream=True)
    with pytest.raises(openai.APIError, match="the node failed") as caught:
        chunks.extend(stream)
    assert caught.value.code == "node_failed"
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices] == [None] * len(chunks)
