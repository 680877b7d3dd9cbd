"""A body of `POST /v1/responses` as the chat that it means (`response_chat` in shared); 400 for what no chat can be."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pinaivu_host.gateway.chat_rules import check_image_url
from pinaivu_host.gateway.error_table import INVALID_REQUEST, UNSUPPORTED_PARAMETER
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.responses.request import (
    Content,
    FunctionTool,
    InputFile,
    InputImage,
    Item,
    MessageItem,
    OtherChoice,
    OtherItem,
    OtherTool,
    OutputItem,
    Part,
    ResponsesRequest,
)
from pinaivu_shared.response_chat import chat_of_response

STATEFUL: Final[Mapping[str, str]] = {
    "background": "nothing runs on in the background here: ask with stream: true",
    "conversation": "no conversations are kept here: send the former items in input",
    "previous_response_id": "no responses are kept here: send the former items in input",
    "prompt": "no prompts are kept here: send instructions and input",
}

NOT_KEPT: Final = "no items are kept here: send the item itself, as clients do with store: false"


def read_chat_body(asked: ResponsesRequest, body: dict[str, Any]) -> dict[str, Any]:
    """The body of a chat completion that asks for the same; ApiError (400) where there is none."""
    for name, hint in STATEFUL.items():
        if getattr(asked, name):
            raise ApiError(UNSUPPORTED_PARAMETER, hint, param=name)
    if asked.truncation == "auto":
        raise ApiError(UNSUPPORTED_PARAMETER, "nothing is cut off a conversation here", param="truncation")
    if not isinstance(asked.input, str):
        _check_items(asked.input)
    _check_choice(asked)
    for tool in asked.tools or ():
        _check_tool(tool)
    chat = chat_of_response(body)
    if not chat["messages"]:
        raise ApiError(INVALID_REQUEST, "input has nothing to answer", param="input")
    return chat


def _check_items(items: Iterable[Item]) -> None:
    for number, item in enumerate(items):
        match item:
            case MessageItem():
                _check_content(item.content, number)
            case OutputItem():
                _check_content(item.output, number)
            case OtherItem(type="item_reference"):
                raise ApiError(UNSUPPORTED_PARAMETER, NOT_KEPT, param=f"input.{number}")
            case OtherItem():
                raise ApiError(
                    UNSUPPORTED_PARAMETER, f"items of type {item.type[:50]} are not supported", param=f"input.{number}"
                )
            case _:
                pass  # calls; and reasoning, which engines here do not take back


def _check_content(content: Content, number: int) -> None:
    for part in () if isinstance(content, str) else content:
        _check_part(part, f"input.{number}.content")


def _check_part(part: Part, param: str) -> None:
    match part:
        case InputImage(image_url=str(url)):
            check_image_url(url, param)
        case InputImage() | InputFile():
            raise ApiError(UNSUPPORTED_PARAMETER, "files are not supported, images as data: URLs only", param=param)


def _check_tool(tool: FunctionTool | OtherTool) -> None:
    if isinstance(tool, OtherTool):
        raise ApiError(UNSUPPORTED_PARAMETER, f"tools of type {tool.type[:50]} are not supported", param="tools")


def _check_choice(asked: ResponsesRequest) -> None:
    match asked.tool_choice:
        case OtherChoice(type=kind):
            raise ApiError(
                UNSUPPORTED_PARAMETER, f"tool_choice of type {kind[:50]} is not supported", param="tool_choice"
            )
        case "required" if not asked.tools:
            raise ApiError(INVALID_REQUEST, "tool_choice: required needs tools", param="tool_choice")
        case _:
            pass
