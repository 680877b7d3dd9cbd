"""What an engine can do with a model: what its kind is known for, what it says of the model, and what it answers to.

Sources: the engines' protocol code and documentation. A kind of job is there when a tiny request of it is answered.
Ollama reads no `n` and tells per model of tools, pictures and thinking (`/api/show`). llama.cpp tells them in `/props`;
whether it knows `n` is tried, older ones ignore it. vLLM takes tools only when started so, which is tried. An unknown
engine is taken to do no more than answer. The operator knows better: `Wishes`.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

import httpx
import msgspec
import trio

from pinaivu_node.engines.events import EngineError
from pinaivu_node.engines.openai import OpenAIEngine
from pinaivu_node.engines.request import engine_request
from pinaivu_shared.terms import Capabilities, Capability

PROBE_SECONDS: Final = 300
"""Ollama loads a model when it is first asked, which takes minutes for a large one."""

EngineKind = Literal["echo", "llama.cpp", "ollama", "sglang", "vllm", "unknown"]
Probes = Mapping[Capability, Mapping[str, Any]]

_CHAT: Final = {"messages": [{"role": "user", "content": "Hello"}]}
_TOOL: Final = {"type": "function", "function": {"name": "nothing", "parameters": {"type": "object", "properties": {}}}}
_JOBS: Final[Probes] = {"chat": _CHAT, "completions": {"prompt": "Hello"}, "embeddings": {"input": "Hello"}}
_OPTIONS: Final[Probes] = {
    "multiple_choices": {**_CHAT, "n": 2},
    "tools": {**_CHAT, "tools": [_TOOL], "tool_choice": "auto"},
}
_NOT_THERE: Final = frozenset({
    httpx.codes.BAD_REQUEST, httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.NOT_IMPLEMENTED,
})  # fmt: skip
_JSON: Final[tuple[Capability, ...]] = ("json_object", "json_schema")


class _Known(NamedTuple):
    """What every engine of a kind can do in a chat, and what is tried."""

    known: tuple[Capability, ...] = ()
    tried: tuple[Capability, ...] = ()


_KINDS: Final[Mapping[EngineKind, _Known]] = {
    "echo": _Known(("images", *_JSON, "logprobs", "multiple_choices", "reasoning_effort", "tools")),
    "llama.cpp": _Known((*_JSON, "logprobs"), ("multiple_choices",)),
    "ollama": _Known(_JSON),
    "sglang": _Known((*_JSON, "logprobs", "multiple_choices")),
    "vllm": _Known((*_JSON, "logprobs", "multiple_choices"), ("tools",)),
    "unknown": _Known(),
}


class Wishes(msgspec.Struct, frozen=True):
    """What the operator says that an engine can do beside what is found, and what it cannot or shall not."""

    more: frozenset[Capability] = frozenset()
    fewer: frozenset[Capability] = frozenset()


def parse_wishes(entries: Iterable[str]) -> Wishes:
    """Wishes from `+name` and `-name`; ValueError names what is none."""
    names = get_args(Capability)
    signed = [(entry[:1], entry[1:]) for entry in entries]
    if wrong := [sign + name for sign, name in signed if sign not in {"+", "-"} or name not in names]:
        raise ValueError(f"{', '.join(wrong)}: write + or - before one of {', '.join(names)}")
    more, fewer = (frozenset(name for name in names if (sign, name) in signed) for sign in "+-")
    if both := sorted(more & fewer):
        raise ValueError(f"{', '.join(both)} is both added and taken away")
    return Wishes(more, fewer)


async def find_capabilities(
    engine: OpenAIEngine, model: str, kind: EngineKind, properties: Mapping[str, Any], wishes: Wishes
) -> Capabilities:
    """What this model is offered for, sorted. `properties` are llama.cpp's.

    EngineError when the model answers to no kind of job, or not in time.
    """
    found = {job for job, body in _JOBS.items() if job not in wishes.fewer and await _answers(engine, model, job, body)}
    if "chat" in found:
        found |= set(_KINDS[kind].known) | _told(kind, properties, await _shown(engine, model, kind))
        found |= {one for one in _KINDS[kind].tried if await _takes(engine, model, one)}
    elif "completions" in found and "multiple_choices" in _KINDS[kind].known:
        found.add("multiple_choices")
    offered = (found | wishes.more) - wishes.fewer
    if not offered & _JOBS.keys():
        raise EngineError("engine_unavailable", f"{model} answers to no kind of job that may be offered")
    return tuple(sorted(offered))


async def _answers(engine: OpenAIEngine, model: str, job: Capability, body: Mapping[str, Any]) -> bool:
    """Whether there is an answer. Trouble with a chat is the engine's, with the others only theirs."""
    try:
        await _probe(engine, model, body, (job,))
    except EngineError as error:
        if error.down or (job == "chat" and error.status not in _NOT_THERE):
            raise
        return False
    return True


async def _takes(engine: OpenAIEngine, model: str, option: Capability) -> bool:
    try:
        await _probe(engine, model, _OPTIONS[option], ("chat", option))
    except EngineError as error:
        if error.down:
            raise
        return False
    return True


async def _probe(engine: OpenAIEngine, model: str, body: Mapping[str, Any], needs: Collection[Capability]) -> None:
    """One answer of one token; EngineError when it does not come whole within PROBE_SECONDS."""
    limit = body.get("n", 1)
    request = engine_request(body, model=model, limit=limit, extras={}, capabilities=needs)
    with trio.move_on_after(PROBE_SECONDS) as deadline:
        async with engine.answer(request) as answer:
            async for _ in answer:
                pass
    if deadline.cancelled_caught:
        raise EngineError("engine_unavailable", f"{model} gave no answer within {PROBE_SECONDS} s", down=True)


async def _shown(engine: OpenAIEngine, model: str, kind: EngineKind) -> frozenset[str]:
    """Ollama's own words for what a model can do."""
    if kind != "ollama":
        return frozenset()
    told = (await engine.get("/api/show", model=model)).get("capabilities")
    return frozenset(one for one in told if isinstance(one, str)) if isinstance(told, list) else frozenset()


def _told(kind: EngineKind, properties: Mapping[str, Any], shown: frozenset[str]) -> set[Capability]:
    """What the engine says of this model."""
    if kind == "llama.cpp":
        says = {
            "tools": _flag(properties, "chat_template_caps", "supports_tool_calls"),
            "reasoning_effort": _flag(properties, "chat_template_caps", "supports_reasoning_effort"),
            "images": _flag(properties, "modalities", "vision"),
        }
    else:
        says = {"tools": "tools" in shown, "reasoning_effort": "thinking" in shown, "images": "vision" in shown}
    return {one for one in get_args(Capability) if says.get(one)}


def _flag(properties: Mapping[str, Any], table: str, name: str) -> bool:
    found = properties.get(table)
    return isinstance(found, dict) and found.get(name) is True
