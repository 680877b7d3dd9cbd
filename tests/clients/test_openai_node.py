"""The unmodified openai SDK for Node: what it parses out of every kind of answer."""

import json
from typing import Any

import pytest
from tests.clients.conftest import TEXT, outcome_of
from tests.clients.javascript import reported
from tests.network.conftest import Description


@pytest.fixture(scope="module")
def found(network: Description, deserted: Description) -> dict[str, Any]:
    return reported("openai.mjs", network, deserted)


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def test_an_unstreamed_answer_is_the_engines(found: dict[str, Any]) -> None:
    choice = found["answer"]["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (TEXT, "stop")


def test_a_stream_carries_the_same_text(found: dict[str, Any]) -> None:
    assert text_of(found["stream"]) == TEXT
    assert found["stream"][-1]["choices"][0]["finish_reason"] == "stop"


def test_a_stream_ends_with_the_usage_that_was_asked_for(found: dict[str, Any]) -> None:
    *content, last = found["streamWithUsage"]
    assert text_of(content) == TEXT
    assert (last["choices"], last["usage"]) == ([], found["answer"]["usage"])


def test_a_history_with_content_parts_is_understood(found: dict[str, Any]) -> None:
    assert found["history"]["choices"][0]["message"]["content"] == "four five six"


def test_a_tool_is_called_and_its_result_understood(found: dict[str, Any]) -> None:
    assert found["tool"]["call"]["name"] == "weather"
    assert json.loads(found["tool"]["call"]["arguments"]) == {"city": "Zürich"}
    assert found["tool"]["answer"] == "rain"
    assert found["streamedTool"] == "rain in Zürich"


def test_a_structured_answer_is_parsed(found: dict[str, Any]) -> None:
    assert found["parsed"] == {"city": "Zürich"}


def test_the_request_id_is_in_body_and_header(found: dict[str, Any]) -> None:
    (request_id,) = set(found["requestId"].values())
    assert request_id.startswith("req_")


def test_a_receipt_is_fetched_with_the_same_client(found: dict[str, Any]) -> None:
    receipt = found["receipt"]["receipt"]
    assert (receipt["request_id"], receipt["outcome"]) == (found["receipt"]["id"], "completed")


def test_models_are_listed_and_found_by_ids_with_colon_and_slash(found: dict[str, Any]) -> None:
    assert {"llama3.2:3b", "pinaivu/echo:1"} <= set(found["models"]["ids"])
    assert found["models"]["found"] == found["models"]["ids"]


@pytest.mark.parametrize(
    ("case", "class_", "status", "code", "text"),
    [
        ("wrongKey", "AuthenticationError", 401, "invalid_api_key", "API key"),
        ("unknownModel", "UnprocessableEntityError", 422, "model_not_found", "no-such-model"),
        ("temperature", "UnprocessableEntityError", 422, "invalid_value", "temperature: "),
        ("unknownModelFound", "NotFoundError", 404, "model_not_found", "no/such:model"),
    ],
)
def test_errors_are_the_sdks_own_classes(
    found: dict[str, Any], *, case: str, class_: str, status: int, code: str, text: str
) -> None:
    thrown = found[case]["thrown"]
    assert (thrown["class"], thrown["status"], thrown["code"]) == (class_, status, code)
    assert text in thrown["message"]
    assert thrown["requestID"].startswith("req_")


def test_a_503_is_retried_as_often_as_the_sdk_is_told_to(found: dict[str, Any]) -> None:
    retried = found["retried"]
    assert (retried["calls"], retried["class"], retried["code"]) == (2, "InternalServerError", "no_node_available")
    assert "no node offers 'echo'" in retried["message"]


def test_an_answer_that_breaks_off_is_an_error_and_no_end(found: dict[str, Any]) -> None:
    thrown = found["brokenOff"]["thrown"]
    assert (thrown["class"], thrown["code"]) == ("APIError", "node_failed")
    assert "the node failed" in thrown["message"]


def test_one_idempotency_key_is_one_job(found: dict[str, Any]) -> None:
    first, second = found["idempotent"]
    assert first == second


def test_a_stream_left_half_way_is_cancelled_and_the_next_request_works(
    network: Description, found: dict[str, Any]
) -> None:
    assert outcome_of(network, found["left"]) == "cancelled"
    assert found["tooSlow"]["thrown"]["class"] == "APIConnectionTimeoutError"
    assert found["afterwards"]["choices"][0]["message"]["content"] == TEXT
