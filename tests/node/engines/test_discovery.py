"""What an engine is found to offer, from what it says about itself."""

from collections.abc import Mapping
from typing import Any

import pytest

from pinaivu_node.engines.choice import EchoChoice, EmbeddedChoice, UrlChoice, parse_engine
from pinaivu_node.engines.discovery import DEFAULT_CONTEXT, ServedModel, discover
from pinaivu_node.engines.events import EngineError
from pinaivu_node.engines.openai import OpenAIEngine
from pinaivu_shared.errors import CallerError

from .scripted import chunk, refused, serving, streamed

NOT_FOUND = refused("404 Not Found", {"error": "no such path"})
TOKEN = streamed(chunk("Hi", "length"))
PROPS = {"default_generation_settings": {"n_ctx": 2048}, "chat_template_caps": {"supports_tool_calls": False}}


def models(**entry: Any) -> list[bytes]:
    return refused("200 OK", {"object": "list", "data": [{"id": "m:1b", **entry}]})


async def found(*scripts: list[bytes], wanted: Mapping[str, str] | None = None, context_length: int = 0) -> ServedModel:
    async with serving(*scripts) as scripted, OpenAIEngine(scripted.address, api_key="", connections=1) as engine:
        (model,) = await discover(engine, wanted=wanted or {}, context_length=context_length)
        return model


@pytest.mark.trio
@pytest.mark.parametrize(
    ("listed", "props", "loaded", "context", "extras"),
    [
        (models(max_model_len=8192), NOT_FOUND, NOT_FOUND, 8192, ["stream_options"]),
        (models(), refused("200 OK", PROPS), NOT_FOUND, 2048, ["timings_per_token"]),
        (
            models(),
            NOT_FOUND,
            refused("200 OK", {"models": [{"name": "m:1b", "context_length": 16384}]}),
            16384,
            [],
        ),
        (models(context_length="long"), NOT_FOUND, NOT_FOUND, DEFAULT_CONTEXT, []),
    ],
    ids=["vllm", "llama", "ollama", "unknown"],
)
async def test_the_context_is_what_the_engine_says(
    listed: list[bytes], props: list[bytes], loaded: list[bytes], context: int, extras: list[str]
) -> None:
    model = await found(listed, TOKEN, props, loaded)
    assert (model.name, model.context_length, list(model.extras)) == ("m:1b", context, extras)
    assert ("tools" in model.capabilities) is (props is NOT_FOUND)


@pytest.mark.trio
@pytest.mark.parametrize(("bound", "context"), [(1024, 1024), (1_000_000, 8192)])
async def test_the_operator_can_only_lower_the_context(bound: int, context: int) -> None:
    model = await found(models(max_model_len=8192), TOKEN, NOT_FOUND, NOT_FOUND, context_length=bound)
    assert model.context_length == context


@pytest.mark.trio
async def test_a_model_may_be_offered_under_another_name() -> None:
    model = await found(models(), TOKEN, NOT_FOUND, NOT_FOUND, wanted={"llama3.2:1b": "m:1b"})
    assert (model.name, model.engine_name) == ("llama3.2:1b", "m:1b")


@pytest.mark.trio
@pytest.mark.parametrize(
    ("scripts", "wanted"),
    [
        ([models()], {"other": "other"}),
        ([refused("200 OK", {"data": []})], {}),
        ([refused("200 OK", {"data": 7})], {}),
        ([refused("503 Unavailable", {"error": "loading"})], {}),
        ([models(), refused("500 Server Error", {"error": "no"})], {}),
    ],
    ids=["missing model", "no models", "no list", "loading", "failed probe"],
)
async def test_an_engine_that_cannot_answer_is_not_offered(scripts: list[list[bytes]], wanted: dict[str, str]) -> None:
    with pytest.RaisesGroup(EngineError, flatten_subgroups=True, allow_unwrapped=True):
        await found(*scripts, wanted=wanted)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("embedded", EmbeddedChoice()),
        ("echo", EchoChoice("")),
        ("echo:tokens=64,fault=refuse", EchoChoice("tokens=64,fault=refuse")),
        ("http://127.0.0.1:11434", UrlChoice("http://127.0.0.1:11434")),
        ("http://127.0.0.1:11434/v1/", UrlChoice("http://127.0.0.1:11434")),
        ("https://engine.example/openai/v1", UrlChoice("https://engine.example/openai")),
    ],
)
def test_one_text_names_the_engine(text: str, choice: object) -> None:
    assert parse_engine(text) == choice


@pytest.mark.parametrize(
    "text",
    ["", "llama", "echo:", "echo:tokens=x", "ftp://x", "http://", "http://u:p@x/", "http://x/?key=1", "http://x:y"],
)
def test_a_text_that_names_no_engine_is_refused(text: str) -> None:
    with pytest.raises(CallerError):
        parse_engine(text)
