"""The unmodified `llm` command, told of the network by `extra-openai-models.yaml` as its manual says."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.clients.conftest import TEXT
from tests.clients.weather import ARGUMENTS, SCHEMA
from tests.network.conftest import Description

from pinaivu_node.engines.echo_embeddings import DIMENSIONS, unit_vector

Ask = Callable[..., subprocess.CompletedProcess[str]]
MODELS = ("echo", "caller", "structured", "breaks", "no-such-model")
CAPABLE = {"api_key_name": "pinaivu", "supports_tools": True, "supports_schema": True}
FUNCTION = """
def weather(city: str) -> str:
    "The weather in a city"
    return "rain in " + city
"""


def configured(network: Description, folder: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> Ask:
    """`llm` with a folder of its own, where the network's models are called `pnv-…`."""
    monkeypatch.setenv("LLM_USER_PATH", str(folder))
    entries = [
        {"model_id": f"pnv-{name}", "model_name": name, "api_base": network["base_url"], **CAPABLE} for name in MODELS
    ]
    entries += [
        {"model_id": f"pnv-{way}", "model_name": "echo", "api_base": network["base_url"], way: True, **CAPABLE}
        for way in ("completion", "responses")
    ]
    (folder / "extra-openai-models.yaml").write_text(json.dumps(entries))  # JSON is YAML
    (folder / "keys.json").write_text(json.dumps({"pinaivu": key, "openai": key}))

    def llm(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llm", *arguments]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    return llm


@pytest.fixture
def llm(network: Description, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    return configured(network, tmp_path, monkeypatch, network["api_key"])


@pytest.mark.parametrize("model", ["pnv-echo", "pnv-responses"])
@pytest.mark.parametrize("stream", [(), ("--no-stream",)], ids=["streamed", "not streamed"])
def test_text_and_usage_are_alike_streamed_and_not(llm: Ask, model: str, stream: tuple[str, ...]) -> None:
    answer = llm("-m", model, "--usage", *stream, TEXT)
    assert (answer.returncode, answer.stdout) == (0, TEXT + "\n")
    assert "Token usage: 5 input, 5 output" in answer.stderr


@pytest.mark.parametrize("stream", [(), ("--no-stream",)], ids=["streamed", "not streamed"])
def test_a_prompt_is_continued(llm: Ask, stream: tuple[str, ...]) -> None:
    answer = llm("-m", "pnv-completion", *stream, TEXT)
    assert (answer.returncode, answer.stdout) == (0, TEXT + "\n")


def test_a_text_becomes_a_vector(llm: Ask, network: Description, monkeypatch: pytest.MonkeyPatch) -> None:
    """`llm` has OpenAI's names for embedding models only; the SDK below it is told of the network."""
    monkeypatch.setenv("OPENAI_BASE_URL", network["base_url"])
    answer = llm("embed", "-m", "3-small", "-c", TEXT)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == pytest.approx(unit_vector(TEXT, DIMENSIONS), abs=1e-6)


@pytest.mark.parametrize("model", ["pnv-echo", "pnv-responses"])
def test_a_system_prompt_and_a_conversation_are_understood(llm: Ask, model: str) -> None:
    assert llm("-m", model, "-s", "You are brief.", "one two").stdout == "one two\n"
    assert llm("-c", "three four").stdout == "three four\n"


def test_a_tool_is_called_and_its_result_understood(llm: Ask) -> None:
    answer = llm("-m", "pnv-caller", "--functions", FUNCTION, ARGUMENTS)
    assert answer.stdout.strip() == "rain in Zürich", answer.stderr


def test_a_schema_is_asked_for(llm: Ask) -> None:
    answer = llm("-m", "pnv-structured", "--schema", json.dumps(SCHEMA), ARGUMENTS)
    assert json.loads(answer.stdout) == {"city": "Zürich"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("-m", "pnv-no-such-model"), "the model 'no-such-model' does not exist here"),
        (("-m", "pnv-echo", "-o", "max_tokens", "0"), "max_tokens: "),
        (("-m", "pnv-breaks"), "the node failed"),
    ],
    ids=["unknown model", "max_tokens", "breaks off"],
)
def test_an_error_is_shown_in_our_words(llm: Ask, arguments: tuple[str, ...], text: str) -> None:
    answer = llm(*arguments, TEXT)
    assert answer.returncode == 1
    assert text in answer.stderr


def test_a_wrong_key_is_shown_in_our_words(
    network: Description, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = configured(network, tmp_path, monkeypatch, "sk-pnv-wrong")("-m", "pnv-echo", TEXT)
    assert (answer.returncode, answer.stdout.strip()) == (1, "")
    assert "this API key is not valid" in answer.stderr


def test_a_503_that_stays_is_shown_in_our_words(
    deserted: Description, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = configured(deserted, tmp_path, monkeypatch, deserted["api_key"])("-m", "pnv-echo", TEXT)
    assert answer.returncode == 1
    assert "no node offers 'echo' right now" in answer.stderr
