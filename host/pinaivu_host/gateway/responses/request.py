"""The body of `POST /v1/responses`: shapes and ranges (422) of its stateless part, for text and function calls.

What needs a memory here (`previous_response_id`, `conversation`, `background`) or tools that run here is refused by
name in `responses.chat`. Keys that are not listed are ignored.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Discriminator, Field, Tag

from pinaivu_host.gateway.chat_request import MESSAGES_MAX, TOOLS_MAX
from pinaivu_host.gateway.messages import PARTS_MAX, Shape
from pinaivu_host.gateway.validation import Number, Penalty, PositiveInt, Whole

KNOWN_ITEMS: Final = ("message", "function_call", "function_call_output", "reasoning")


class InputText(Shape):
    """A piece of text, of either side."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class Refusal(Shape):
    """What an assistant refused to say."""

    type: Literal["refusal"]
    refusal: str


class InputImage(Shape):
    """An image; only `data:` URLs are served."""

    type: Literal["input_image"]
    image_url: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None


class InputFile(Shape):
    """A file, which no node takes."""

    type: Literal["input_file", "input_audio"]


Part = Annotated[InputText | Refusal | InputImage | InputFile, Discriminator("type")]


def _text_or_list(value: object) -> str:
    return "list" if isinstance(value, list) else "text"


Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[Part], Field(max_length=PARTS_MAX, fail_fast=True), Tag("list")],
    Discriminator(_text_or_list),
]


class MessageItem(Shape):
    """What somebody said."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class CallItem(Shape):
    """A function call that the model made earlier."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class OutputItem(Shape):
    """What the function gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: Content


class ReasoningItem(Shape):
    """Reasoning of an earlier answer, which clients send back; there is none to go on with."""

    type: Literal["reasoning"]


class OtherItem(Shape):
    """An item of a kind that no node here understands."""

    type: str


def _kind_of_item(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind is None:
        return "message"
    return kind if kind in KNOWN_ITEMS else "other"


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[OutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[OtherItem, Tag("other")],
    Discriminator(_kind_of_item),
]
Input = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[list[Item], Field(min_length=1, max_length=MESSAGES_MAX, fail_fast=True), Tag("list")],
    Discriminator(_text_or_list),
]


class FunctionTool(Shape):
    """A function that the model may call."""

    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class OtherTool(Shape):
    """A tool that the server would have to run."""

    type: str


def _kind_of_tool(value: object) -> str:
    return "function" if isinstance(value, dict) and value.get("type") == "function" else "other"


Tool = Annotated[
    Annotated[FunctionTool, Tag("function")] | Annotated[OtherTool, Tag("other")], Discriminator(_kind_of_tool)
]


class ChosenFunction(Shape):
    """Call this function."""

    type: Literal["function"]
    name: str


class OtherChoice(Shape):
    """A choice among tools that no node here understands."""

    type: str


def _kind_of_choice(value: object) -> str:
    return "mode" if isinstance(value, str) else _kind_of_tool(value)


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("mode")]
    | Annotated[ChosenFunction, Tag("function")]
    | Annotated[OtherChoice, Tag("other")],
    Discriminator(_kind_of_choice),
]


class TextFormat(Shape):
    """Plain text, or any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(Shape):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class TextOptions(Shape):
    """The form of the text."""

    format: Annotated[TextFormat | SchemaFormat, Discriminator("type")] | None = None


MOVED: Final[Mapping[str, str]] = {
    "max_completion_tokens": "use max_output_tokens",
    "max_tokens": "use max_output_tokens",
    "n": "a response is one answer, so send the request several times",
    "reasoning_effort": "use reasoning.effort",
    "response_format": "use text.format",
    "stop": "a response has no stop sequences; chat completions have",
}
"""What chats have that changes an answer or its price."""


class Reasoning(Shape):
    """How much to think."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None


class ResponsesRequest(Shape):
    """Everything of a request that matters here."""

    model: Annotated[str, Field(min_length=1)]
    input: Input
    background: bool | None = None
    conversation: Any = None
    frequency_penalty: Penalty | None = None
    include: Annotated[list[str], Field(max_length=64, fail_fast=True)] | None = None
    instructions: str | None = None
    max_output_tokens: PositiveInt | None = None
    max_tool_calls: PositiveInt | None = None
    metadata: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    presence_penalty: Penalty | None = None
    previous_response_id: str | None = None
    prompt: Any = None
    prompt_cache_key: str | None = None
    reasoning: Reasoning | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    stream: bool | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    text: TextOptions | None = None
    tool_choice: ToolChoice | None = None
    tools: Annotated[list[Tool], Field(max_length=TOOLS_MAX, fail_fast=True)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), Whole] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None
