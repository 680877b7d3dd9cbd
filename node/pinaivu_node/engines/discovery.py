"""What an engine offers: its models, their context and its dialect, found out by asking and by a one-token answer.

Where engines tell their context: vLLM and newer SGLang `max_model_len`, others `context_length` in `/v1/models`;
llama.cpp `n_ctx` of one slot in `/props`; Ollama `context_length` of loaded models in `/api/ps`.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import trio

from pinaivu_node.engines.events import EngineError
from pinaivu_node.engines.openai import OpenAIEngine
from pinaivu_node.engines.request import engine_request
from pinaivu_shared.terms import Capabilities

PROBE_SECONDS: Final = 300
"""Ollama loads a model when it is first asked, which takes minutes for a large one."""

DEFAULT_CONTEXT: Final = 4096
"""What is assumed where neither engine nor operator says: Ollama's default."""

_MAX_CONTEXT: Final = 2**31


class ServedModel(msgspec.Struct, frozen=True):
    """A model of the engine, under the name it is offered by.

    `extras` is what this engine is asked beside OpenAI's parameters, so that a cancelled answer has token counts too.
    """

    name: str
    engine_name: str
    context_length: int
    capabilities: Capabilities
    extras: Mapping[str, Any]


async def discover(engine: OpenAIEngine, *, wanted: Mapping[str, str], context_length: int) -> tuple[ServedModel, ...]:
    """Every wanted model, after each answered a one-token request.

    `wanted` maps offered names to the engine's own, empty for all it has. `context_length` is the operator's bound, 0
    for none. EngineError when a model is missing or does not answer.
    """
    listed = _listed(await engine.get("/v1/models"))
    wanted = wanted or {name: name for name in listed}
    if missing := sorted(set(wanted.values()) - set(listed)):
        raise EngineError("engine_unavailable", f"the engine has no model {', '.join(missing)}")
    if not wanted:
        raise EngineError("engine_unavailable", "the engine lists no models (does it want another API key?)")
    for engine_name in wanted.values():
        await probe(engine, engine_name)
    properties = await engine.get("/props")
    loaded = await engine.get("/api/ps")
    return tuple(
        _served(name, listed[engine_name], properties, loaded, context_length) for name, engine_name in wanted.items()
    )


async def probe(engine: OpenAIEngine, model: str) -> None:
    """One answer of one token; EngineError when it does not come whole within PROBE_SECONDS."""
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    request = engine_request(body, model=model, limit=1, extras={})
    with trio.move_on_after(PROBE_SECONDS) as deadline:
        async with engine.answer(request) as answer:
            async for _ in answer:
                pass
    if deadline.cancelled_caught:
        raise EngineError("engine_unavailable", f"{model} gave no answer within {PROBE_SECONDS} s", down=True)


def _served(
    name: str, entry: Mapping[str, Any], properties: Mapping[str, Any], loaded: Mapping[str, Any], bound: int
) -> ServedModel:
    engine_name = entry["id"]
    told = _told_context(entry, properties, loaded)
    return ServedModel(
        name=name,
        engine_name=engine_name,
        context_length=min(told or bound or DEFAULT_CONTEXT, bound or _MAX_CONTEXT),
        capabilities=_capabilities(properties),
        extras=_extras(entry, properties),
    )


def _capabilities(properties: Mapping[str, Any]) -> Capabilities:
    template = _mapping(properties, "chat_template_caps")
    tools: Capabilities = ("tools",) if template.get("supports_tool_calls") is not False else ()
    return ("chat", "images", "json_object", "json_schema", "logprobs", "reasoning_effort", *tools)


def _told_context(entry: Mapping[str, Any], properties: Mapping[str, Any], loaded: Mapping[str, Any]) -> int:
    """The context as the engine tells it, 0 where it does not."""
    slot = _mapping(properties, "default_generation_settings")
    running = next((model for model in _entries(loaded, "models") if model.get("name") == entry["id"]), {})
    told = (entry.get("max_model_len"), entry.get("context_length"), slot.get("n_ctx"), running.get("context_length"))
    return next((length for length in told if isinstance(length, int) and 0 < length <= _MAX_CONTEXT), 0)


def _extras(entry: Mapping[str, Any], properties: Mapping[str, Any]) -> Mapping[str, Any]:
    if _mapping(properties, "default_generation_settings"):
        return {"timings_per_token": True}
    if "max_model_len" in entry:
        return {"stream_options": {"continuous_usage_stats": True}}
    return {}


def _listed(models: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {entry["id"]: entry for entry in _entries(models, "data") if isinstance(entry.get("id"), str)}


def _entries(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = document.get(key)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _mapping(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}
