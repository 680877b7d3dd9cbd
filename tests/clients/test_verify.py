"""`pinaivu verify` on answers as the openai SDK for Python saves them: of each endpoint, and streams."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.clients.conftest import TEXT
from tests.clients.weather import ARGUMENTS, TOOL
from tests.network.conftest import Description, http

FUNCTIONS: Any = [{"type": "function", **TOOL["function"]}]
CHAT_TOOLS: Any = [TOOL]
FORM: Any = {"format": {"type": "text"}}
HISTORY: Any = [
    {"role": "user", "content": [{"type": "input_text", "text": "What is the weather?"}]},
    {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "Sunny."},
    {"role": "assistant", "content": [{"type": "output_text", "text": "It is sunny.", "annotations": []}]},
    {"role": "user", "content": [{"type": "input_text", "text": "And"}, {"type": "input_text", "text": TEXT}]},
]
Ask = Callable[[openai.OpenAI], Any]
CASES: dict[str, Ask] = {
    "chat": lambda client: client.chat.completions.with_streaming_response.create(
        model="echo", messages=[{"role": "user", "content": TEXT}], n=2, logprobs=True
    ),
    "chat stream": lambda client: client.chat.completions.with_streaming_response.create(
        model="echo", messages=[{"role": "user", "content": TEXT}], n=2, logprobs=True, stream=True
    ),
    "chat with a call": lambda client: client.chat.completions.with_streaming_response.create(
        model="caller", messages=[{"role": "user", "content": ARGUMENTS}], tools=CHAT_TOOLS, max_tokens=500
    ),
    "completion": lambda client: client.completions.with_streaming_response.create(model="echo", prompt=TEXT, n=2),
    "completion stream": lambda client: client.completions.with_streaming_response.create(
        model="echo", prompt=TEXT, n=2, stream=True
    ),
    "embeddings": lambda client: client.embeddings.with_streaming_response.create(
        model="echo", input=[TEXT, "another"], encoding_format="float"
    ),
    "embeddings in base64": lambda client: client.embeddings.with_streaming_response.create(
        model="echo", input=[TEXT, "another"]
    ),
    "response": lambda client: client.responses.with_streaming_response.create(
        model="echo", input=TEXT, max_output_tokens=2
    ),
    "response to a conversation": lambda client: client.responses.with_streaming_response.create(
        model="echo", input=HISTORY, instructions="Be brief.", reasoning={"effort": "low"}, text=FORM, temperature=0.5
    ),
    "response stream": lambda client: client.responses.with_streaming_response.create(
        model="echo", input=TEXT, stream=True
    ),
    "response stream with a call": lambda client: client.responses.with_streaming_response.create(
        model="caller",
        input=ARGUMENTS,
        tools=FUNCTIONS,
        stream=True,
    ),
}


@pytest.mark.parametrize("ask", CASES.values(), ids=CASES)
def test_request_and_answer_open_the_receipt(
    network: Description, client: openai.OpenAI, tmp_path: Path, ask: Ask
) -> None:
    saved = tmp_path / "answer"
    with ask(client) as answer:
        saved.write_bytes(answer.read())
        request_id, request = answer.headers["x-request-id"], answer.http_request.content
    with http(network) as plain:
        bundle = plain.get(f"/receipts/{request_id}/bundle").content
    (tmp_path / "bundle").write_bytes(bundle)
    (tmp_path / "request").write_bytes(request)
    command = [sys.executable, "-m", "pinaivu_shared.command", "verify", str(tmp_path / "bundle"), "--json"]
    opened = ["--trust", network["trust"], "--request", str(tmp_path / "request"), "--response", str(saved)]
    ended = subprocess.run([*command, *opened], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["opened_commitments"] == ["request", "forwarded", "response"]
