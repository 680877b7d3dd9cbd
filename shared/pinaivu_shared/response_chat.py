"""A body of `POST /v1/responses` as the chat that it means: what nodes get of it.

It holds for bodies that the gateway takes. TypeError, ValueError or LookupError for one that can mean no chat.
"""

from collections.abc import Sequence
from typing import Any, Final

from pinaivu_shared.json_fields import Fields, fields_of, list_of, text_of

_LOGPROBS: Final = "message.output_text.logprobs"
"""What `include` names to have log-probabilities in the answer."""
_TEXTS: Final = ("input_text", "output_text", "text")
_DETAILS: Final = ("auto", "low", "high")
_SAME: Final = ("frequency_penalty", "presence_penalty", "service_tier", "stream", "temperature", "top_p")
"""Fields that a chat calls alike."""


def chat_of_response(body: Fields) -> Fields:
    """The body of a chat completion that asks for the same; null stands for absent."""
    asked = _there(body)
    tools = list_of(asked.get("tools", []))
    chat = {
        "model": text_of(asked["model"]),
        "messages": _messages(asked),
        **{name: asked.get(name) for name in _SAME},
        "max_completion_tokens": asked.get("max_output_tokens"),
        "parallel_tool_calls": asked.get("parallel_tool_calls") if tools else None,
        "reasoning_effort": fields_of(asked.get("reasoning", {})).get("effort"),
        "response_format": _format(fields_of(asked.get("text", {})).get("format")),
        "tool_choice": _choice(asked.get("tool_choice"), tools),
        "tools": [_tool(fields_of(tool)) for tool in tools] or None,
        **_logprobs(asked),
    }
    return _there(chat)


def _there(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


def _logprobs(asked: Fields) -> Fields:
    most = asked.get("top_logprobs")
    return {"logprobs": True, "top_logprobs": most} if most or _LOGPROBS in list_of(asked.get("include", [])) else {}


def _messages(asked: Fields) -> list[Fields]:
    messages: list[Fields] = []
    if "instructions" in asked:
        messages.append({"role": "system", "content": text_of(asked["instructions"])})
    if isinstance(asked["input"], str):
        messages.append({"role": "user", "content": asked["input"]})
    else:
        for item in list_of(asked["input"]):
            _add_item(messages, fields_of(item))
    return messages


def _add_item(messages: list[Fields], item: Fields) -> None:
    match item.get("type"):
        case None | "message":
            messages.append({"role": text_of(item["role"]), "content": _content(item["content"])})
        case "function_call":
            _add_call(messages, item)
        case "function_call_output":
            output = _content(item["output"])
            messages.append({"role": "tool", "tool_call_id": text_of(item["call_id"]), "content": output})
        case "reasoning":
            pass  # engines here do not take theirs back
        case kind:
            raise ValueError(f"items of type {kind!r} have no place in a chat")


def _add_call(messages: list[Fields], item: Fields) -> None:
    """Calls that follow each other, or the assistant's words, are one message of a chat."""
    function = {"name": text_of(item["name"]), "arguments": text_of(item["arguments"])}
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    call = {"id": text_of(item["call_id"]), "type": "function", "function": function}
    messages[-1].setdefault("tool_calls", []).append(call)


def _content(content: object) -> str | list[Fields]:
    """Text stays text; so does a list of one text, which every engine takes."""
    if isinstance(content, str):
        return content
    parts = [_part(fields_of(part)) for part in list_of(content)]
    match parts:
        case []:
            return ""
        case [{"type": "text", "text": str(text)}]:
            return text
        case _:
            return parts


def _part(part: Fields) -> Fields:
    kind = part["type"]
    if kind in _TEXTS:
        return {"type": "text", "text": text_of(part["text"])}
    if kind == "refusal":
        return {"type": "refusal", "refusal": text_of(part["refusal"])}
    if kind != "input_image":
        raise ValueError(f"parts of type {kind!r} have no place in a chat")
    detail = part.get("detail")
    return {
        "type": "image_url",
        "image_url": {"url": text_of(part["image_url"])} | ({"detail": detail} if detail in _DETAILS else {}),
    }


def _tool(tool: Fields) -> Fields:
    if tool["type"] != "function":
        raise ValueError(f"tools of type {tool['type']!r} have no place in a chat")
    return {"type": "function", "function": _named(tool, ("name", "description", "parameters", "strict"))}


def _choice(choice: object, tools: Sequence[object]) -> object:
    if isinstance(choice, dict):
        if choice["type"] != "function":
            raise ValueError(f"a tool_choice of type {choice['type']!r} has no place in a chat")
        return {"type": "function", "function": {"name": text_of(choice["name"])}}
    return choice if tools else None


def _format(form: Any) -> Fields | None:  # noqa: ANN401 - any JSON value
    if form is None:
        return None
    kind = text_of(fields_of(form)["type"])
    if kind != "json_schema":
        return {"type": kind}
    return {"type": kind, "json_schema": _named(form, ("name", "description", "schema", "strict"))}


def _named(fields: Fields, names: Sequence[str]) -> Fields:
    return {name: fields[name] for name in names if fields.get(name) is not None}
