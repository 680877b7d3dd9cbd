"""What an engine is found to offer, from what it says about itself."""

from collections.abc import Mapping
from typing import Any

import pytest

from pinaivu_node.engines.choice import EchoChoice, EmbeddedChoice, UrlChoice, parse_engine
from pinaivu_node.engines.discovery import DEFAULT_CONTEXT, ServedModel, discover
from pinaivu_node.engines.events import EngineError
from pinaivu_node.engines.openai import OpenAIEngine
from pinaivu_shared.errors import CallerError

from .scripted import Route, chunk, refused, routing, streamed, told

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
TOKEN = streamed(chunk("Hi", "length"))
PROPS = {"default_generation_settings": {"n_ctx": 2048}, "chat_template_caps": {"supports_tool_calls": False}}
LOADED = {"models": [{"name": "m:1b", "context_length": 16384}]}


def models(**entry: Any) -> list[bytes]:
    return told({"object": "list", "data": [{"id": "m:1b", **entry}]})


async def found(
    routes: Mapping[str, Route], *, wanted: Mapping[str, str] | None = None, context_length: int = 0
) -> ServedModel:
    async with routing(routes) as scripted, OpenAIEngine(scripted.address, api_key="", connections=1) as engine:
        (model,) = await discover(engine, wanted=wanted or {}, context_length=context_length)
        return model


@pytest.mark.trio
@pytest.mark.parametrize(
    ("routes", "context", "extras"),
    [
        ({"/v1/models": models(max_model_len=8192)}, 8192, ["stream_options"]),
        ({"/v1/models": models(), "/props": told(PROPS)}, 2048, ["timings_per_token"]),
        ({"/v1/models": models(), "/api/ps": told(LOADED)}, 16384, []),
        ({"/v1/models": models(context_length="long")}, DEFAULT_CONTEXT, []),
    ],
    ids=["vllm", "llama", "ollama", "unknown"],
)
async def test_the_context_is_what_the_engine_says(routes: dict[str, Route], context: int, extras: list[str]) -> None:
    model = await found({CHAT: TOKEN, **routes})
    assert (model.name, model.context_length, list(model.extras)) == ("m:1b", context, extras)


@pytest.mark.trio
@pytest.mark.parametrize(("bound", "context"), [(1024, 1024), (1_000_000, 8192)])
async def test_the_operator_can_only_lower_the_context(bound: int, context: int) -> None:
    model = await found({"/v1/models": models(max_model_len=8192), CHAT: TOKEN}, context_length=bound)
    assert model.context_length == context


@pytest.mark.trio
async def test_a_model_may_be_offered_under_another_name() -> None:
    model = await found({"/v1/models": models(), CHAT: TOKEN}, wanted={"llama3.2:1b": "m:1b"})
    assert (model.name, model.engine_name) == ("llama3.2:1b", "m:1b")


@pytest.mark.trio
@pytest.mark.parametrize(
    ("routes", "wanted"),
    [
        ({"/v1/models": models(), CHAT: TOKEN}, {"other": "other"}),
        ({"/v1/models": told({"data": []})}, {}),
        ({"/v1/models": told({"data": 7})}, {}),
        ({"/v1/models": refused("503 Unavailable", {"error": "loading"})}, {}),
        ({"/v1/models": models(), CHAT: refused("500 Server Error", {"error": "no"}), COMPLETIONS: TOKEN}, {}),
        ({"/v1/models": models(), CHAT: refused("401 Unauthorized", {"error": "no"}), COMPLETIONS: TOKEN}, {}),
        ({"/v1/models": models()}, {}),
    ],
    ids=["missing model", "no models", "no list", "loading", "failed probe", "another key", "answers nothing"],
)
async def test_an_engine_that_cannot_answer_is_not_offered(routes: dict[str, Route], wanted: dict[str, str]) -> None:
    with pytest.RaisesGroup(EngineError, flatten_subgroups=True, allow_unwrapped=True):
        await found(routes, wanted=wanted)


KEY = "is its API key right? See --engine-api-key-file"
LIST = models()
MANY = told({"data": [{"id": f"m{number:02}"} for number in range(25)]})


@pytest.mark.trio
@pytest.mark.parametrize(
    ("routes", "told_why"),
    [
        ({"/v1/models": refused("401 Unauthorized", {"error": "no"})}, f"the engine answered 401: {KEY}"),
        ({"/v1/models": refused("403 Forbidden", {"error": "no"})}, f"the engine answered 403: {KEY}"),
        ({"/v1/models": LIST, CHAT: refused("401 Unauthorized", {"error": "no"})}, f"the engine answered 401: {KEY}"),
        ({}, "/v1/models: is its address right? It is the one for OpenAI's clients, with or without /v1 at its end"),
        ({"/v1/models": told([])}, "the engine answered 200 and no list of models at http://127.0.0.1:"),
        ({"/v1/models": LIST, CHAT: TOKEN}, "the engine has no model other; it has m:1b"),
        ({"/v1/models": MANY}, "m19 and 5 more"),
    ],
    ids=["wrong key", "forbidden", "key for answers only", "wrong address", "no list", "missing model", "many models"],
)
async def test_why_an_engine_is_not_offered_tells_the_operator_what_to_look_at(
    routes: dict[str, Route], told_why: str
) -> None:
    wanted = {} if CHAT in routes and routes[CHAT] != TOKEN else {"other": "other"}
    with pytest.RaisesGroup(EngineError, flatten_subgroups=True, allow_unwrapped=True) as caught:
        await found(routes, wanted=wanted)
    assert told_why in str(alone(caught.value))


def alone(error: BaseException) -> BaseException:
    return alone(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


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
