"""Curl, as people paste it: with and without a content type, a body from a file, a stream, a receipt."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.clients.conftest import TEXT, outcome_of
from tests.network.conftest import Description

from pinaivu_node.engines.echo_embeddings import DIMENSIONS, unit_vector

BODY: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": TEXT}]}
JSON = ("--header", "Content-Type: application/json")


def curl(network: Description, path: str, *arguments: str, key: str = "") -> tuple[int, dict[str, str], str]:
    """Status, headers and body of one call."""
    authorization = f"Authorization: Bearer {key or network['api_key']}"
    command = ["curl", "--silent", "--show-error", "--include", "--header", authorization, *arguments]
    printed = subprocess.run([*command, network["base_url"] + path], capture_output=True, check=True).stdout.decode()
    head, _, body = printed.partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


def post(network: Description, body: object, *arguments: str) -> tuple[int, dict[str, str], str]:
    return curl(network, "/chat/completions", *(arguments or JSON), "--data", json.dumps(body))


def test_an_unstreamed_answer_is_the_engines(network: Description) -> None:
    status, headers, body = post(network, BODY)
    answer = json.loads(body)
    assert (status, answer["choices"][0]["message"]["content"]) == (200, TEXT)
    assert headers["x-request-id"] == answer["request_id"]


def test_a_stream_comes_as_events_and_ends_with_done(network: Description) -> None:
    status, headers, body = post(network, {**BODY, "stream": True}, *JSON, "--no-buffer")
    *events, done, end = body.split("\n\n")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == TEXT
    assert (done, end) == ("data: [DONE]", "")


def test_a_body_comes_from_a_file_in_utf_8(network: Description, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text(json.dumps(BODY, ensure_ascii=False, indent=2))
    status, _, body = curl(network, "/chat/completions", "--json", f"@{tmp_path}/request.json")
    assert (status, json.loads(body)["choices"][0]["message"]["content"]) == (200, TEXT)


@pytest.mark.parametrize("header", ["Content-Type:", "Content-Type: text/plain"], ids=["none", "text/plain"])
def test_json_is_read_without_a_content_type_that_says_so(network: Description, header: str) -> None:
    assert post(network, BODY, "--header", header)[0] == 200


def test_curls_own_content_type_for_data_is_refused_in_words(network: Description) -> None:
    status, _, body = post(network, BODY, "--compressed")  # no header: curl calls it a form
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (415, "unsupported_media_type")
    assert "'application/x-www-form-urlencoded' is not application/json" in error["message"]


def test_a_body_that_expects_a_100_is_read(network: Description, tmp_path: Path) -> None:
    long = {**BODY, "messages": [{"role": "user", "content": "word " * 10_000}]}
    (tmp_path / "request.json").write_text(json.dumps(long))
    expecting = ("--header", "Expect: 100-continue")
    _, _, rest = curl(network, "/chat/completions", "--json", f"@{tmp_path}/request.json", *expecting)
    assert rest.startswith("HTTP/1.1 200 ")


def test_a_prompt_is_continued(network: Description) -> None:
    body = json.dumps({"model": "echo", "prompt": TEXT})
    status, headers, printed = curl(network, "/completions", *JSON, "--data", body)
    answer = json.loads(printed)
    assert (status, answer["choices"][0]["text"]) == (200, TEXT)
    assert headers["x-request-id"] == answer["request_id"]


def test_texts_become_numbers(network: Description) -> None:
    body = json.dumps({"model": "echo", "input": [TEXT, "another"]})
    status, _, printed = curl(network, "/embeddings", *JSON, "--data", body)
    vectors = [one["embedding"] for one in json.loads(printed)["data"]]
    assert (status, [len(vector) for vector in vectors]) == (200, [DIMENSIONS, DIMENSIONS])
    assert vectors[0] == pytest.approx(unit_vector(TEXT, DIMENSIONS), abs=1e-6)


def test_a_response_is_given_whole_and_as_events(network: Description) -> None:
    body = {"model": "echo", "input": TEXT}
    status, headers, printed = curl(network, "/responses", *JSON, "--data", json.dumps(body))
    whole = json.loads(printed)
    assert (status, whole["output"][0]["content"][0]["text"]) == (200, TEXT)
    assert headers["x-request-id"] == whole["request_id"]
    _, headers, printed = curl(
        network, "/responses", *JSON, "--no-buffer", "--data", json.dumps({**body, "stream": True})
    )
    *_, last, end = printed.split("\n\n")
    name, data = last.split("\n")
    assert (headers["content-type"], name, end) == ("text/event-stream; charset=utf-8", "event: response.completed", "")
    assert json.loads(data.removeprefix("data: "))["response"]["usage"] == whole["usage"]


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"model": "gpt-9"}, 422, "model_not_found", "model"),
        ({"temperature": 3}, 422, "invalid_value", "temperature"),
        ({"stream_options": {"include_usage": True}}, 400, "invalid_request", "stream_options"),
    ],
    ids=["unknown model", "temperature", "stream_options"],
)
def test_errors_have_one_shape(
    network: Description, change: dict[str, Any], status: int, code: str, param: str
) -> None:
    found, headers, body = post(network, {**BODY, **change})
    answer = json.loads(body)
    assert (found, answer["error"]["code"], answer["error"]["param"]) == (status, code, param)
    assert answer["request_id"] == headers["x-request-id"]


def test_a_wrong_key_is_told_how_to_authenticate(network: Description) -> None:
    status, headers, body = curl(network, "/models", key="sk-pnv-wrong")
    assert (status, headers["www-authenticate"]) == (401, "bearer")
    assert json.loads(body)["error"]["code"] == "invalid_api_key"


def test_a_503_is_retried_as_often_as_curl_is_told_to(deserted: Description) -> None:
    status, headers, rest = post(deserted, BODY, *JSON, "--retry", "1")
    assert (status, headers["retry-after"], rest.count("HTTP/1.1 503 ")) == (503, "1", 1)


@pytest.mark.parametrize("path", ["llama3.2:3b", "pinaivu/echo:1", "pinaivu%2Fecho%3A1"])
def test_a_model_is_found_by_an_id_with_colon_and_slash(network: Description, path: str) -> None:
    status, _, body = curl(network, f"/models/{path}")
    assert (status, json.loads(body)["id"]) == (200, path.replace("%2F", "/").replace("%3A", ":"))


def test_the_receipt_is_there_under_the_request_id(network: Description) -> None:
    _, headers, _ = post(network, BODY)
    status, _, body = curl(network, f"/receipts/{headers['x-request-id']}")
    assert (status, json.loads(body)["outcome"]) == (200, "completed")


def test_a_stream_left_half_way_is_cancelled_and_the_next_request_works(network: Description) -> None:
    command = ["curl", "--silent", "--no-buffer", *JSON, "--header", f"Authorization: Bearer {network['api_key']}"]
    body = json.dumps({**BODY, "model": "slow", "stream": True})
    url = f"{network['base_url']}/chat/completions"
    with subprocess.Popen([*command, "--data", body, url], stdout=subprocess.PIPE) as leaving:
        assert leaving.stdout is not None
        first = json.loads(leaving.stdout.readline().removeprefix(b"data: "))
        assert b'"content":"word0' in leaving.stdout.readline() + leaving.stdout.readline()
        leaving.terminate()
    assert outcome_of(network, first["request_id"]) == "cancelled"
    assert post(network, BODY)[0] == 200
