"""What a model is offered for: what its engine is known for, says of it and answers to, and what the operator says."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pinaivu_node.engines.capabilities import Wishes, parse_wishes
from pinaivu_node.engines.discovery import discover
from pinaivu_node.engines.events import EngineError
from pinaivu_node.engines.openai import OpenAIEngine

from .scripted import Route, RoutedEngine, ScriptedEngine, chunk, refused, routing, streamed, told

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
TOKEN = streamed(chunk("Hi", "length"))
TEXT = streamed({"choices": [{"index": 0, "text": "Hi", "finish_reason": "length"}]})
VECTOR = told({"data": [{"index": 0, "embedding": [0.6, 0.8]}]})
REFUSED = refused("400 Bad Request", {"error": "cannot"})
JOBS: dict[str, Route] = {CHAT: TOKEN, COMPLETIONS: TEXT, EMBEDDINGS: VECTOR}


def listed(**entry: Any) -> list[bytes]:
    return told({"data": [{"id": "m", **entry}]})


def knowing_n(request: Mapping[str, Any]) -> Sequence[bytes]:
    choices = ({"index": index, "delta": {}, "finish_reason": "length"} for index in range(request.get("n", 1)))
    return streamed(*({"choices": [choice]} for choice in choices))


def without_tools(request: Mapping[str, Any]) -> Sequence[bytes]:
    return REFUSED if "tools" in request else TOKEN


async def found(engine: RoutedEngine, wishes: Wishes = Wishes()) -> set[str]:  # noqa: B008 - frozen
    async with OpenAIEngine(engine.address, api_key="", connections=1) as client:
        (model,) = await discover(client, wanted={}, context_length=0, wishes=wishes)
    assert list(model.capabilities) == sorted(model.capabilities)
    return set(model.capabilities)


async def of(routes: Mapping[str, Route], *wishes: str) -> set[str]:
    async with routing({"/v1/models": listed(), **routes}) as engine:
        return await found(engine, parse_wishes(wishes))


LLAMA = {"default_generation_settings": {"n_ctx": 2048}}
FORMATS = {"json_object", "json_schema"}
ENGINES: dict[str, tuple[Mapping[str, Route], set[str]]] = {
    "unknown": ({CHAT: TOKEN}, {"chat"}),
    "ollama": (
        {**JOBS, "/api/ps": told({"models": []}), "/api/show": told({"capabilities": ["completion", "tools"]})},
        {"chat", "completions", "embeddings", *FORMATS, "tools"},
    ),
    "ollama's picture model that thinks": (
        {CHAT: TOKEN, "/api/ps": told({"models": []}), "/api/show": told({"capabilities": ["vision", "thinking"]})},
        {"chat", *FORMATS, "images", "reasoning_effort"},
    ),
    "ollama of old, which says nothing": ({CHAT: TOKEN, "/api/ps": told({"models": []})}, {"chat", *FORMATS}),
    "llama.cpp": (
        {CHAT: knowing_n, "/props": told({**LLAMA, "chat_template_caps": {"supports_tool_calls": True}})},
        {"chat", *FORMATS, "logprobs", "multiple_choices", "tools"},
    ),
    "llama.cpp that ignores n": (
        {CHAT: TOKEN, "/props": told({**LLAMA, "chat_template_caps": {"supports_tool_calls": False}})},
        {"chat", *FORMATS, "logprobs"},
    ),
    "llama.cpp that sees": (
        {CHAT: TOKEN, "/props": told({**LLAMA, "modalities": {"vision": True}})},
        {"chat", *FORMATS, "logprobs", "images"},
    ),
    "vllm": (
        {"/v1/models": listed(owned_by="vllm"), CHAT: without_tools},
        {"chat", *FORMATS, "logprobs", "multiple_choices"},
    ),
    "vllm that was started with tools": (
        {"/v1/models": listed(owned_by="vllm"), CHAT: TOKEN},
        {"chat", *FORMATS, "logprobs", "multiple_choices", "tools"},
    ),
    "sglang": (
        {"/v1/models": listed(owned_by="sglang"), CHAT: TOKEN, COMPLETIONS: TEXT},
        {"chat", "completions", *FORMATS, "logprobs", "multiple_choices"},
    ),
    "a base model": ({"/v1/models": listed(owned_by="vllm"), CHAT: REFUSED, COMPLETIONS: TEXT}, {
        "completions", "multiple_choices",
    }),
    "nomic-embed": ({CHAT: REFUSED, EMBEDDINGS: VECTOR}, {"embeddings"}),
    "an embeddings server of llama.cpp": (
        {CHAT: refused("501 Not Implemented", {}), EMBEDDINGS: VECTOR, "/props": told(LLAMA)},
        {"embeddings"},
    ),
}  # fmt: skip


@pytest.mark.trio
@pytest.mark.parametrize(("routes", "capabilities"), ENGINES.values(), ids=ENGINES)
async def test_each_kind_of_engine_is_offered_for_what_it_can_do(
    routes: Mapping[str, Route], capabilities: set[str]
) -> None:
    assert await of(routes) == capabilities


@pytest.mark.trio
@pytest.mark.parametrize("refusal", ["400 Bad Request", "404 Not Found", "405 No", "500 Error", "501 Not Implemented"])
async def test_what_only_chats_is_offered_for_chats(refusal: str) -> None:
    no = refused(refusal, {"error": "no"})
    assert await of({CHAT: TOKEN, COMPLETIONS: no, EMBEDDINGS: no}) == {"chat"}


@pytest.mark.trio
async def test_embeddings_that_are_none_are_not_offered() -> None:
    assert await of({CHAT: TOKEN, EMBEDDINGS: told({"data": [{"embedding": []}]})}) == {"chat"}


@pytest.mark.trio
async def test_an_engine_that_goes_down_while_it_is_tried_is_not_offered() -> None:
    with pytest.RaisesGroup(EngineError, flatten_subgroups=True, allow_unwrapped=True):
        await of({CHAT: TOKEN, COMPLETIONS: refused("503 Unavailable", {})})


@pytest.mark.trio
async def test_the_operator_knows_better() -> None:
    assert await of({**JOBS}, "+tools", "+logprobs", "-completions") == {"chat", "embeddings", "tools", "logprobs"}


@pytest.mark.trio
async def test_what_the_operator_takes_away_is_not_tried() -> None:
    async with routing({"/v1/models": listed(), **JOBS, EMBEDDINGS: [ScriptedEngine.HOLD]}) as engine:
        assert await found(engine, parse_wishes(["-embeddings"])) == {"chat", "completions"}
        assert EMBEDDINGS not in engine.paths()


@pytest.mark.trio
async def test_a_model_of_which_nothing_is_left_is_not_offered() -> None:
    with pytest.RaisesGroup(EngineError, flatten_subgroups=True, allow_unwrapped=True):
        await of({CHAT: TOKEN}, "-chat")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["tools"], "^tools: write [+] or - before one of chat, "),
        (["+vision", "-x"], "^[+]vision, -x: write"),
        (["+tools", "-tools"], "^tools is both added and taken away"),
        ([""], "write [+] or -"),
    ],
)
def test_a_wish_that_is_none_is_named(wrong: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_wishes(wrong)
