"""The body of `POST /v1/chat/completions`: its shape and ranges (422).

What is well formed and makes no sense is refused in `chat_rules`.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Discriminator, Field, Tag

from pinaivu_host.gateway.messages import Message, Shape
from pinaivu_host.gateway.validation import Number, Penalty, PositiveInt, Seed, Stop, StreamOptions, Whole, read_request

MESSAGES_MAX: Final = 4096
TOOLS_MAX: Final = 128


def _kind_of(value: object) -> str:
    if isinstance(value, str):
        return "mode"
    kind = value.get("type") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) and kind in {"allowed_tools", "custom"} else "function"


class JsonSchema(Shape):
    """A schema that the answer is to follow."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextFormat(Shape):
    """Plain text."""

    type: Literal["text"]


class JsonFormat(Shape):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaFormat(Shape):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class Function(Shape):
    """A function that the model may call."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Shape):
    """A function as a tool."""

    type: Literal["function"]
    function: Function


class CustomTool(Shape):
    """A tool of free form, which no node here runs."""

    type: Literal["custom"]


Tool = Annotated[FunctionTool | CustomTool, Discriminator("type")]


class FunctionName(Shape):
    """The function to call."""

    name: str


class NamedFunction(Shape):
    """Call this function."""

    type: Literal["function"]
    function: FunctionName


class OtherChoice(Shape):
    """A choice among tools that no node here understands."""

    type: Literal["allowed_tools", "custom"]


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("mode")]
    | Annotated[NamedFunction, Tag("function")]
    | Annotated[OtherChoice, Tag("allowed_tools")]
    | Annotated[OtherChoice, Tag("custom")],
    Discriminator(_kind_of),
]


class ChatRequest(Shape):
    """Everything of a request that matters here. Keys that are not listed are ignored."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES_MAX, fail_fast=True)]
    max_completion_tokens: PositiveInt | None = None
    max_tokens: PositiveInt | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128), Whole] | None = None
    stop: Stop | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Any = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), Whole] | None = None
    response_format: Annotated[TextFormat | JsonFormat | SchemaFormat, Discriminator("type")] | None = None
    tools: Annotated[list[Tool], Field(max_length=TOOLS_MAX, fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Any = None
    function_call: Any = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    seed: Seed | None = None
    modalities: Annotated[list[str], Field(max_length=16, fail_fast=True)] | None = None
    audio: Any = None
    web_search_options: Any = None
    service_tier: str | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None

    @property
    def choices(self) -> int:
        """How many answers are wanted."""
        return self.n or 1

    def wants_usage(self) -> bool:
        """Whether a stream is to end with a usage chunk."""
        return bool(self.stream_options and self.stream_options.include_usage)


def read_chat_request(body: dict[str, Any]) -> ChatRequest:
    """The request in a parsed body; ApiError (422) naming the fields that are wrong."""
    return read_request(ChatRequest, body)
