"""A body of `POST /v1/responses` as the chat that it means: what nodes get (400 for what no chat can be)."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pinaivu_host.gateway.chat_rules import check_image_url
from pinaivu_host.gateway.error_table import INVALID_REQUEST, UNSUPPORTED_PARAMETER
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.responses.request import (
    CallItem,
    ChosenFunction,
    Content,
    FunctionTool,
    InputFile,
    InputImage,
    InputText,
    Item,
    MessageItem,
    OtherChoice,
    OtherItem,
    OtherTool,
    OutputItem,
    Part,
    Refusal,
    ResponsesRequest,
    SchemaFormat,
)

STATEFUL: Final[Mapping[str, str]] = {
    "background": "nothing runs on in the background here: ask with stream: true",
    "conversation": "no conversations are kept here: send the former items in input",
    "previous_response_id": "no responses are kept here: send the former items in input",
    "prompt": "no prompts are kept here: send instructions and input",
}

NOT_KEPT: Final = "no items are kept here: send the item itself, as clients do with store: false"


def chat_of(asked: ResponsesRequest) -> dict[str, Any]:
    """The body of a chat completion that asks for the same."""
    for name, hint in STATEFUL.items():
        if getattr(asked, name):
            raise ApiError(UNSUPPORTED_PARAMETER, hint, param=name)
    if asked.truncation == "auto":
        raise ApiError(UNSUPPORTED_PARAMETER, "nothing is cut off a conversation here", param="truncation")
    chat: dict[str, Any] = {
        "model": asked.model,
        "messages": _messages(asked),
        "frequency_penalty": asked.frequency_penalty,
        "max_completion_tokens": asked.max_output_tokens,
        "parallel_tool_calls": asked.parallel_tool_calls if asked.tools else None,
        "presence_penalty": asked.presence_penalty,
        "reasoning_effort": asked.reasoning.effort if asked.reasoning else None,
        "response_format": _format(asked),
        "service_tier": asked.service_tier,
        "stream": asked.stream,
        "temperature": asked.temperature,
        "tool_choice": _choice(asked),
        "tools": [_tool(tool) for tool in asked.tools] if asked.tools else None,
        "top_p": asked.top_p,
    }
    if asked.wants_logprobs():
        chat |= {"logprobs": True, "top_logprobs": asked.top_logprobs}
    return {name: value for name, value in chat.items() if value is not None}


def _messages(asked: ResponsesRequest) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if asked.instructions is not None:
        messages.append({"role": "system", "content": asked.instructions})
    if isinstance(asked.input, str):
        messages.append({"role": "user", "content": asked.input})
    else:
        _add_items(messages, asked.input)
    if not messages:
        raise ApiError(INVALID_REQUEST, "input has nothing to answer", param="input")
    return messages


def _add_items(messages: list[dict[str, Any]], items: Iterable[Item]) -> None:
    for number, item in enumerate(items):
        match item:
            case MessageItem():
                messages.append({"role": item.role, "content": _content(item.content, number)})
            case CallItem():
                _add_call(messages, item)
            case OutputItem():
                output = _content(item.output, number)
                messages.append({"role": "tool", "tool_call_id": item.call_id, "content": output})
            case OtherItem(type="item_reference"):
                raise ApiError(UNSUPPORTED_PARAMETER, NOT_KEPT, param=f"input.{number}")
            case OtherItem():
                raise ApiError(
                    UNSUPPORTED_PARAMETER, f"items of type {item.type[:50]} are not supported", param=f"input.{number}"
                )
            case _:
                pass  # reasoning: engines here do not take theirs back


def _add_call(messages: list[dict[str, Any]], item: CallItem) -> None:
    """Calls that follow each other, or the assistant's words, are one message of a chat."""
    call = {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", []).append(call)


def _content(content: Content, number: int) -> str | list[dict[str, Any]]:
    """Text stays text; so does a list of one text, which every engine takes."""
    if isinstance(content, str):
        return content
    parts = [_part(part, f"input.{number}.content") for part in content]
    match parts:
        case []:
            return ""
        case [{"type": "text", "text": str(text)}]:
            return text
        case _:
            return parts


def _part(part: Part, param: str) -> dict[str, Any]:
    match part:
        case InputText():
            return {"type": "text", "text": part.text}
        case Refusal():
            return {"type": "refusal", "refusal": part.refusal}
        case InputImage(image_url=str(url)):
            check_image_url(url, param)
            detail = part.detail if part.detail in {"auto", "low", "high"} else None
            return {"type": "image_url", "image_url": {"url": url} | ({"detail": detail} if detail else {})}
        case InputImage() | InputFile():
            raise ApiError(UNSUPPORTED_PARAMETER, "files are not supported, images as data: URLs only", param=param)


def _tool(tool: FunctionTool | OtherTool) -> dict[str, Any]:
    if isinstance(tool, OtherTool):
        raise ApiError(UNSUPPORTED_PARAMETER, f"tools of type {tool.type[:50]} are not supported", param="tools")
    return {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}


def _choice(asked: ResponsesRequest) -> str | dict[str, Any] | None:
    match asked.tool_choice:
        case OtherChoice(type=kind):
            raise ApiError(
                UNSUPPORTED_PARAMETER, f"tool_choice of type {kind[:50]} is not supported", param="tool_choice"
            )
        case ChosenFunction(name=name):
            return {"type": "function", "function": {"name": name}}
        case choice if asked.tools:
            return choice
        case "required":
            raise ApiError(INVALID_REQUEST, "tool_choice: required needs tools", param="tool_choice")
        case _:
            return None


def _format(asked: ResponsesRequest) -> dict[str, Any] | None:
    form = asked.text.format if asked.text else None
    match form:
        case None:
            return None
        case SchemaFormat():
            schema = form.model_dump(exclude={"type"}, exclude_none=True, by_alias=True)
            return {"type": "json_schema", "json_schema": schema}
        case _:
            return {"type": form.type}
