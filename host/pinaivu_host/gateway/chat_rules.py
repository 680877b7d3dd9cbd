"""What is well formed but cannot be done here, or makes no sense: 400, before any auction (facts of OpenAI's API)."""

from collections.abc import Iterator
from typing import Final

from pinaivu_host.gateway.chat_request import ChatRequest, CustomTool, NamedFunction, OtherChoice
from pinaivu_host.gateway.error_table import INVALID_REQUEST, UNSUPPORTED_IMAGE_URL, UNSUPPORTED_PARAMETER
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.messages import AssistantMessage, AudioPart, FilePart, ImagePart, UserMessage
from pinaivu_shared.terms import Capability

CHOICES_MAX: Final = 8


def check_chat(chat: ChatRequest) -> None:
    """Raise ApiError (400) unless some node could serve this request."""
    _check_sense(chat)
    _check_support(chat)
    _check_tools(chat)
    for number, part in _special_parts(chat):
        _check_part(number, part)


def needs_of(chat: ChatRequest) -> tuple[Capability, ...]:
    """What an engine must be able to do for it, sorted. `reasoning_effort` is a wish: engines without it go on."""
    form = "" if chat.response_format is None else chat.response_format.type
    needed: dict[Capability, bool] = {
        "images": any(isinstance(part, ImagePart) for _, part in _special_parts(chat)),
        "json_object": form == "json_object",
        "json_schema": form == "json_schema",
        "logprobs": bool(chat.logprobs),
        "multiple_choices": chat.choices > 1,
        "tools": bool(chat.tools),
    }
    return ("chat", *(capability for capability, is_needed in needed.items() if is_needed))


def check_image_url(url: str, param: str) -> None:
    """Raise ApiError (400) for an image that is not in its URL itself."""
    if not url.startswith("data:"):
        # A remote URL would have a node operator's machine fetch an address that a stranger chose.
        raise ApiError(UNSUPPORTED_IMAGE_URL, "images must be data: URLs; addresses are not fetched", param=param)


def _check_sense(chat: ChatRequest) -> None:
    if chat.stream_options is not None and not chat.stream:
        raise ApiError(INVALID_REQUEST, "stream_options needs stream: true", param="stream_options")
    if chat.top_logprobs is not None and not chat.logprobs:
        raise ApiError(INVALID_REQUEST, "top_logprobs needs logprobs: true", param="top_logprobs")
    for number, message in enumerate(chat.messages):
        if isinstance(message, AssistantMessage) and message.content and message.refusal:
            reason = "stands beside content: a node gets one text; send a refusal of several parts in content"
            raise ApiError(INVALID_REQUEST, f"refusal {reason}", param=f"messages.{number}.refusal")


def _check_support(chat: ChatRequest) -> None:
    refused = {
        "n": chat.choices > CHOICES_MAX,
        "logit_bias": bool(chat.logit_bias),
        "functions": chat.functions is not None,
        "function_call": chat.function_call is not None,
        "modalities": bool(chat.modalities) and chat.modalities != ["text"],
        "audio": chat.audio is not None,
        "web_search_options": chat.web_search_options is not None,
    }
    hints = {
        "n": f"n above {CHOICES_MAX} is not supported: send the request several times",
        "functions": "functions is not supported: use tools",
        "function_call": "function_call is not supported: use tool_choice",
    }
    for name, is_refused in refused.items():
        if is_refused:
            raise ApiError(UNSUPPORTED_PARAMETER, hints.get(name, f"{name} is not supported"), param=name)


def _check_tools(chat: ChatRequest) -> None:
    if any(isinstance(tool, CustomTool) for tool in chat.tools or ()):
        raise ApiError(UNSUPPORTED_PARAMETER, "only tools of type function are supported", param="tools")
    match chat.tool_choice:
        case OtherChoice(type=kind):
            raise ApiError(UNSUPPORTED_PARAMETER, f"tool_choice of type {kind} is not supported", param="tool_choice")
        case NamedFunction(function=wanted):
            names = {tool.function.name for tool in chat.tools or () if not isinstance(tool, CustomTool)}
            if wanted.name not in names:
                raise ApiError(INVALID_REQUEST, "tool_choice names a function that tools lacks", param="tool_choice")
        case "required" if not chat.tools:
            raise ApiError(INVALID_REQUEST, "tool_choice: required needs tools", param="tool_choice")
        case _:
            pass


def _special_parts(chat: ChatRequest) -> Iterator[tuple[int, ImagePart | AudioPart | FilePart]]:
    for number, message in enumerate(chat.messages):
        if isinstance(message, UserMessage) and not isinstance(message.content, str):
            for part in message.content:
                if isinstance(part, ImagePart | AudioPart | FilePart):
                    yield number, part


def _check_part(number: int, part: ImagePart | AudioPart | FilePart) -> None:
    param = f"messages.{number}.content"
    if not isinstance(part, ImagePart):
        raise ApiError(UNSUPPORTED_PARAMETER, f"content of type {part.type} is not supported", param=param)
    check_image_url(part.image_url.url, param)
