"""The unmodified AI SDK: its provider for compatible APIs, and its provider for OpenAI with `.chat()` and without.

Without, it posts to `/v1/responses`.
"""

from typing import Any

import pytest
from tests.clients.conftest import TEXT, outcome_of
from tests.clients.javascript import reported
from tests.network.conftest import Description

from pinaivu_node.engines.echo_embeddings import DIMENSIONS, unit_vector


@pytest.fixture(scope="module", params=["compatible", "openai", "responses"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def found(network: Description, deserted: Description, provider: str) -> dict[str, Any]:
    return reported("ai.mjs", network, deserted, provider=provider)


def test_an_unstreamed_answer_is_the_engines(found: dict[str, Any]) -> None:
    assert (found["answer"]["text"], found["answer"]["finishReason"]) == (TEXT, "stop")


def test_each_provider_asks_the_endpoint_it_is_here_for(found: dict[str, Any], provider: str) -> None:
    assert found["answer"]["body"]["object"] == ("response" if provider == "responses" else "chat.completion")


def test_a_stream_carries_the_same_text_and_usage(found: dict[str, Any]) -> None:
    stream, answer = found["stream"], found["answer"]
    assert (stream["text"], stream["finishReason"], stream["errors"]) == (TEXT, "stop", [])
    assert stream["usage"]["raw"] == answer["usage"]["raw"]
    assert stream["usage"]["outputTokens"] > 0


def test_a_history_with_content_parts_is_understood(found: dict[str, Any]) -> None:
    assert found["history"] == "four five six"


def test_a_tool_is_called_and_its_result_understood(found: dict[str, Any]) -> None:
    assert found["tool"] == {"call": {"city": "Zürich"}, "text": "rain in Zürich"}
    assert found["streamedTool"] == "rain in Zürich"


def test_an_object_is_generated_by_its_schema(found: dict[str, Any]) -> None:
    assert found["object"] == found["streamedObject"] == {"city": "Zürich"}


def test_a_conversation_goes_on_with_the_messages_of_its_answer(found: dict[str, Any], provider: str) -> None:
    """With responses only when told that nothing is stored: else the SDK sends references, and is told what to do."""
    conversation = found["conversation"]
    assert (conversation["text"], conversation["inputTokens"]) == ("three", 5)
    if provider == "responses":
        thrown = conversation["defaults"]["thrown"]
        assert (thrown["statusCode"], thrown["data"]["error"]["code"]) == (400, "unsupported_parameter")
        assert "store: false" in thrown["message"]
    else:
        assert conversation["defaults"] == {"text": "three"}


def test_every_text_gets_a_vector(found: dict[str, Any]) -> None:
    embeddings = found["embeddings"]
    assert embeddings["lengths"] == [DIMENSIONS, DIMENSIONS]
    assert embeddings["first"] == pytest.approx(unit_vector(TEXT, DIMENSIONS), abs=1e-6)
    assert embeddings["usage"]["tokens"] == len(TEXT.split()) + 1


def test_the_request_id_is_in_body_and_header(found: dict[str, Any]) -> None:
    assert found["answer"]["requestId"] == found["answer"]["body"]["request_id"]


def test_the_receipt_is_there_under_the_request_id(found: dict[str, Any]) -> None:
    receipt = found["receipt"]["receipt"]
    assert (receipt["request_id"], receipt["outcome"]) == (found["receipt"]["id"], "completed")


@pytest.mark.parametrize(
    ("case", "status", "code", "text"),
    [
        ("wrongKey", 401, "invalid_api_key", "API key"),
        ("unknownModel", 422, "model_not_found", "no-such-model"),
        ("temperature", 422, "invalid_value", "temperature: "),
    ],
)
def test_errors_are_the_sdks_own_class(found: dict[str, Any], case: str, status: int, code: str, text: str) -> None:
    thrown = found[case]["thrown"]
    assert (thrown["name"], thrown["statusCode"]) == ("AI_APICallError", status)
    assert thrown["data"]["error"]["code"] == code
    assert text in thrown["message"]
    assert thrown["responseHeaders"]["x-request-id"].startswith("req_")


def test_a_503_is_retried_as_often_as_the_sdk_is_told_to(found: dict[str, Any]) -> None:
    retried = found["retried"]
    assert (retried["calls"], retried["name"], retried["reason"]) == (2, "AI_RetryError", "maxRetriesExceeded")
    assert "no node offers 'echo'" in retried["message"]


def test_an_answer_that_breaks_off_is_an_error_and_no_end(found: dict[str, Any]) -> None:
    broken = found["brokenOff"]
    assert (broken["text"], broken["finishReason"]) == ("word0 word1 word2 ", "error")
    assert [(error["code"], error["type"]) for error in broken["errors"]] == [("node_failed", "server_error")]


def test_a_stream_left_half_way_is_cancelled(network: Description, found: dict[str, Any]) -> None:
    assert outcome_of(network, found["left"]) == "cancelled"
