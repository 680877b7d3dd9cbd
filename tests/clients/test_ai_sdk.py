"""The unmodified AI SDK, with its provider for compatible APIs and with its provider for OpenAI (`.chat()`)."""

from typing import Any

import pytest
from tests.clients.conftest import TEXT, outcome_of
from tests.clients.javascript import reported
from tests.network.conftest import Description


@pytest.fixture(scope="module", params=["compatible", "openai"])
def found(network: Description, deserted: Description, request: pytest.FixtureRequest) -> dict[str, Any]:
    return reported("ai.mjs", network, deserted, provider=request.param)


def test_an_unstreamed_answer_is_the_engines(found: dict[str, Any]) -> None:
    assert (found["answer"]["text"], found["answer"]["finishReason"]) == (TEXT, "stop")


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


def test_the_request_id_is_in_body_and_header(found: dict[str, Any]) -> None:
    assert found["answer"]["requestId"] == found["answer"]["body"]


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
