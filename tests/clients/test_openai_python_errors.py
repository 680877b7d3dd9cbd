"""The unmodified openai SDK for Python: every error as the SDK's own class, with our text, code and request id."""

from typing import Any

import openai
import pytest
from tests.clients.conftest import TEXT
from tests.network.conftest import Description

MESSAGES: Any = [{"role": "user", "content": TEXT}]
INCLUDE_USAGE = {"stream_options": {"include_usage": True}}


def client_of(network: Description, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(**{"base_url": network["base_url"], "api_key": network["api_key"], **options})


@pytest.mark.parametrize(
    ("request_", "error", "code", "param", "text"),
    [
        ({"model": "gpt-9"}, openai.UnprocessableEntityError, "model_not_found", "model", "gpt-9"),
        ({"temperature": -1}, openai.UnprocessableEntityError, "invalid_value", "temperature", "temperature: "),
        (INCLUDE_USAGE, openai.BadRequestError, "invalid_request", "stream_options", "needs stream: true"),
    ],
    ids=["unknown model", "temperature", "stream_options"],
)
def test_errors_are_the_sdks_own_classes(
    network: Description,
    *,
    request_: dict[str, Any],
    error: type[openai.APIStatusError],
    code: str,
    param: str,
    text: str,
) -> None:
    with client_of(network) as client, pytest.raises(error, match=text) as caught:
        client.chat.completions.create(**{"model": "echo", "messages": MESSAGES, **request_})
    assert (caught.value.code, caught.value.param, caught.value.type) == (code, param, "invalid_request_error")
    assert caught.value.request_id == caught.value.response.json()["request_id"]


def test_a_wrong_key_is_an_authentication_error_that_does_not_repeat_the_key(network: Description) -> None:
    with client_of(network, api_key="sk-pnv-wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model="echo", messages=MESSAGES)
    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "authentication_error")
    assert "key" in str(caught.value)
    assert "sk-pnv-wrong" not in str(caught.value)


def test_a_base_url_without_v1_is_told_so(network: Description) -> None:
    wrong = network["base_url"].removesuffix("/v1")
    with client_of(network, base_url=wrong) as client, pytest.raises(openai.NotFoundError, match="must end in /v1"):
        client.models.list()


def test_a_503_is_retried_as_often_as_the_sdk_is_told_to(deserted: Description) -> None:
    attempts: list[str] = []
    seen = openai.DefaultHttpxClient(
        event_hooks={"request": [lambda request: attempts.append(request.headers["x-stainless-retry-count"])]}
    )
    with (
        client_of(deserted, max_retries=1, http_client=seen) as client,
        pytest.raises(openai.InternalServerError, match="no node offers") as caught,
    ):
        client.chat.completions.create(model="echo", messages=MESSAGES)
    assert attempts == ["0", "1"]
    assert (caught.value.status_code, caught.value.code) == (503, "no_node_available")
    assert caught.value.response.headers["retry-after"] == "1"


def test_an_answer_that_breaks_off_is_an_error_and_no_end(network: Description) -> None:
    with client_of(network) as client:
        stream = client.chat.completions.create(model="breaks", messages=MESSAGES, stream=True)
        chunks: list[Any] = []
        with pytest.raises(openai.APIError, match="the node failed") as caught:
            chunks.extend(stream)
    assert chunks[-1].choices[0].delta.content
    assert caught.value.code == "node_failed"
    assert not isinstance(caught.value, openai.APIStatusError)
