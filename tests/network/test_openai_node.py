"""The unmodified openai SDK for Node against a running network."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.network.conftest import Description

SCRIPT = Path(__file__).with_name("openai_node")
TEXT = "Grüße, 世界 🙂 und mehr"

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="node and npm are not installed on this machine"
)


@pytest.fixture(scope="module")
def found(echo_network: Description) -> dict[str, Any]:
    if not (SCRIPT / "node_modules").exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=SCRIPT, check=True)
    printed = subprocess.run(
        ["node", "conformance.mjs", echo_network["base_url"], echo_network["api_key"], "echo"],
        cwd=SCRIPT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    result: dict[str, Any] = json.loads(printed)
    return result


def test_an_unstreamed_answer_is_the_engines(found: dict[str, Any]) -> None:
    choice = found["answer"]["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (TEXT, "stop")


def test_the_request_id_is_in_body_and_header(found: dict[str, Any]) -> None:
    assert found["answer"]["request_id"] == found["sdkRequestId"]
    assert found["header"].startswith("req_")


def test_a_stream_carries_the_text_and_the_usage(found: dict[str, Any]) -> None:
    *content, last = found["chunks"]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in content) == TEXT
    assert last["usage"]["completion_tokens"] > 0


def test_models_are_listed_and_errors_typed(found: dict[str, Any]) -> None:
    assert found["models"] == ["echo"]
    expected = {"name": "UnprocessableEntityError", "status": 422, "code": "model_not_found", "param": "model"}
    assert found["failure"] == expected
