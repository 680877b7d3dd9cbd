"""What an engine offers: its models, their context and its dialect, found out by asking and by tiny requests.

Where engines tell their context: vLLM and newer SGLang `max_model_len`, others `context_length` in `/v1/models`;
llama.cpp `n_ctx` of one slot in `/props`; Ollama `context_length` of loaded models in `/api/ps`.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from pinaivu_node.engines.capabilities import EngineKind, Wishes, find_capabilities
from pinaivu_node.engines.events import EngineError
from pinaivu_node.engines.openai import OpenAIEngine
from pinaivu_shared.report import first_names
from pinaivu_shared.terms import Capabilities

DEFAULT_CONTEXT: Final = 4096
"""What is assumed where neither engine nor operator says: Ollama's default."""

_MODELS_SHOWN: Final = 20
_MAX_CONTEXT: Final = 2**31
_NO_WISHES: Final = Wishes()


class ServedModel(msgspec.Struct, frozen=True):
    """A model of the engine, under the name it is offered by.

    `extras` is what this engine is asked beside OpenAI's parameters, so that a cancelled answer has token counts too;
    `json_grammar` what it is asked for a JSON object with, empty for `response_format`.
    """

    name: str
    engine_name: str
    context_length: int
    capabilities: Capabilities
    extras: Mapping[str, Any]
    json_grammar: str = ""


async def discover(
    engine: OpenAIEngine, *, wanted: Mapping[str, str], context_length: int, wishes: Wishes = _NO_WISHES
) -> tuple[ServedModel, ...]:
    """Every wanted model, after each answered a tiny request.

    `wanted` maps offered names to the engine's own, empty for all it has. `context_length` is the operator's bound, 0
    for none; `wishes` is what the operator knows better. EngineError when a model is missing or does not answer.
    """
    listed = _listed(await engine.models())
    wanted = wanted or {name: name for name in listed}
    if missing := sorted(set(wanted.values()) - set(listed)):
        raise EngineError("engine_unavailable", f"the engine has no model {', '.join(missing)}; {_has(listed)}")
    if not wanted:
        raise EngineError("engine_unavailable", _has(listed))
    properties = await engine.get("/props")
    is_ollama = "models" in await engine.get("/api/ps")
    capabilities = {
        name: await find_capabilities(
            engine, name, engine_kind(listed[name], properties, is_ollama=is_ollama), properties, wishes
        )
        for name in dict.fromkeys(wanted.values())
    }
    loaded = await engine.get("/api/ps") if is_ollama else {}
    return tuple(
        ServedModel(
            name=name,
            engine_name=engine_name,
            context_length=_context(_told_context(listed[engine_name], properties, loaded), context_length),
            capabilities=capabilities[engine_name],
            extras=_extras(listed[engine_name], properties),
        )
        for name, engine_name in wanted.items()
    )


def engine_kind(entry: Mapping[str, Any], properties: Mapping[str, Any], *, is_ollama: bool) -> EngineKind:
    """Which engine this is, from a model's entry in `/v1/models` and from `/props`."""
    if is_ollama:
        return "ollama"
    if _mapping(properties, "default_generation_settings"):
        return "llama.cpp"
    match entry.get("owned_by"):
        case "vllm":
            return "vllm"
        case "sglang":
            return "sglang"
        case "pinaivu":
            return "echo"
        case _:
            return "unknown"


def _context(told: int, bound: int) -> int:
    return min(told or bound or DEFAULT_CONTEXT, bound or _MAX_CONTEXT)


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


def _has(listed: Collection[str]) -> str:
    """What the engine has, in a line of the log."""
    return f"it has {first_names(sorted(listed), _MODELS_SHOWN)}" if listed else "the engine lists no models"


def _listed(models: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {entry["id"]: entry for entry in _entries(models, "data") if isinstance(entry.get("id"), str)}


def _entries(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = document.get(key)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _mapping(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}
