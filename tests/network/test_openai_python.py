"""The unmodified openai SDK for Python against a running network."""

import json
from typing import Any

import openai
import pytest
from tests.network.conftest import Description, http

TEXT = "Grüße, 世界 🙂 und mehr"
MESSAGES: Any = [{"role": "user", "content": TEXT}]


def test_an_unstreamed_answer_is_the_engines(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="echo", messages=MESSAGES)
    assert answer.choices[0].message.content == TEXT
    assert (answer.choices[0].finish_reason, answer.model, answer.object) == ("stop", "echo", "chat.completion")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_the_request_id_is_in_body_and_header(client: openai.OpenAI) -> None:
    answer: Any = client.chat.completions.create(model="echo", messages=MESSAGES)
    assert answer.request_id == answer._request_id
    raw = client.chat.completions.with_raw_response.create(model="echo", messages=MESSAGES)
    assert raw.parse().request_id == raw.headers["x-request-id"] == raw.request_id  # type: ignore[attr-defined]
    assert len(raw.headers["x-pinaivu-salt"]) == 64


def test_a_stream_has_the_shapes_of_the_protocol(client: openai.OpenAI) -> None:
    chunks: list[Any] = list(client.chat.completions.create(model="echo", messages=MESSAGES, stream=True))
    first, last = chunks[0], chunks[-1]
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert (last.choices[0].finish_reason, last.choices[0].delta.content) == ("stop", None)
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert len({(chunk.id, chunk.created, chunk.model, chunk.request_id) for chunk in chunks}) == 1
    assert all(chunk.usage is None and "usage" not in chunk.model_fields_set for chunk in chunks)


def test_usage_comes_only_when_asked_for_and_last(client: openai.OpenAI) -> None:
    chunks: list[Any] = list(
        client.chat.completions.create(
            model="echo", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks[:-1])


def test_max_tokens_ends_the_answer_with_length(client: openai.OpenAI) -> None:
    for limit in ({"max_tokens": 2}, {"max_completion_tokens": 2}):
        answer = client.chat.completions.create(model="echo", messages=MESSAGES, **limit)  # type: ignore[call-overload]
        assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 2)


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["echo"]
    assert client.models.retrieve("echo").object == "model"


@pytest.mark.parametrize(
    ("request_", "error", "code"),
    [
        ({"model": "gpt-9"}, openai.UnprocessableEntityError, "model_not_found"),
        ({"temperature": -1}, openai.UnprocessableEntityError, "invalid_value"),
        ({"stream_options": {"include_usage": True}}, openai.BadRequestError, "invalid_request"),
    ],
    ids=["unknown model", "temperature", "stream_options"],
)
def test_errors_are_the_sdks_own_classes(
    client: openai.OpenAI, request_: dict[str, Any], error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(**{"model": "echo", "messages": MESSAGES, **request_})
    assert caught.value.code == code
    assert caught.value.request_id


def test_a_wrong_key_is_an_authentication_error(echo_network: Description) -> None:
    with (
        openai.OpenAI(base_url=echo_network["base_url"], api_key="sk-pnv-wrong") as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_the_raw_stream_ends_with_done(echo_network: Description) -> None:
    body = {"model": "echo", "messages": MESSAGES, "stream": True}
    with http(echo_network) as raw:
        answer = raw.post("/chat/completions", json=body)
    events = answer.text.split("\n\n")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (events[-2], events[-1]) == ("data: [DONE]", "")
    assert all(json.loads(event.removeprefix("data: ")) for event in events[:-2])
