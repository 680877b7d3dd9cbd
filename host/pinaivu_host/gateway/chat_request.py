"""The body of `POST /v1/chat/completions`: its shape and ranges (422).

What is well formed and makes no sense is refused in `chat_rules`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AllowInfNan, BaseModel, BeforeValidator, Discriminator, Field, Tag, ValidationError

from pinaivu_host.gateway.errors import INVALID_VALUE, MISSING_FIELD, ApiError, Detail
from pinaivu_host.gateway.messages import Message, Shape

MESSAGES_MAX: Final = 4096
TOOLS_MAX: Final = 128
DETAILS_MAX: Final = 20
_Model = TypeVar("_Model", bound=BaseModel)


def _whole(value: object) -> object:
    """JavaScript callers compute integers: 16.0 is one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kind_of(value: object) -> str | None:
    if isinstance(value, str):
        return "mode"
    kind = value.get("type") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) else None


def _one_or_many(value: object) -> str:
    return "many" if isinstance(value, list) else "one"


Whole = BeforeValidator(_whole)
PositiveInt = Annotated[int, Whole, Field(ge=1)]
Number = Annotated[float, AllowInfNan(allow_inf_nan=False)]
Penalty = Annotated[Number, Field(ge=-2, le=2)]
StopText = Annotated[str, Field(max_length=1024)]
Stop = Annotated[
    Annotated[StopText, Tag("one")]
    | Annotated[list[StopText], Field(min_length=1, max_length=4, fail_fast=True), Tag("many")],
    Discriminator(_one_or_many),
]


class StreamOptions(Shape):
    """What else the caller wants in the stream."""

    include_usage: bool | None = None


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
    n: Annotated[int, Whole, Field(ge=1, le=128)] | None = None
    stop: Stop | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Any = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Whole, Field(ge=0, le=20)] | None = None
    response_format: Annotated[TextFormat | JsonFormat | SchemaFormat, Discriminator("type")] | None = None
    tools: Annotated[list[Tool], Field(max_length=TOOLS_MAX, fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Any = None
    function_call: Any = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    seed: Annotated[int, Whole] | None = None
    modalities: Annotated[list[str], Field(max_length=16, fail_fast=True)] | None = None
    audio: Any = None
    web_search_options: Any = None
    service_tier: str | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None

    def max_answer_tokens(self) -> int:
        """The smaller of both names for the limit, 0 where there is none."""
        return min((one for one in (self.max_completion_tokens, self.max_tokens) if one is not None), default=0)

    def wants_logprobs_at_the_end(self) -> bool:
        """Whether log-probabilities are to be kept for an unstreamed answer; a stream shows each as it comes."""
        return bool(self.logprobs) and not self.stream

    def wants_usage(self) -> bool:
        """Whether a stream is to end with a usage chunk."""
        return bool(self.stream_options and self.stream_options.include_usage)


def read_chat_request(body: dict[str, Any]) -> ChatRequest:
    """The request in a parsed body; ApiError (422) naming the fields that are wrong."""
    return validated(ChatRequest, {name: value for name, value in body.items() if value is not None})


def validated(shape: type[_Model], body: dict[str, Any]) -> _Model:
    """The body as `shape`; ApiError (422) with the first faults as `detail`, their essence as the message."""
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)[:DETAILS_MAX]
    detail = [_detail(fault["loc"], fault["msg"], fault["type"], body) for fault in faults]
    first = detail[0]
    kind = MISSING_FIELD if first.type == "missing" else INVALID_VALUE
    message = "; ".join(f"{_dotted(one)}: {one.msg}" for one in detail[:3])
    raise ApiError(kind, message, param=_dotted(first) or None, detail=detail)


def _dotted(detail: Detail) -> str:
    return ".".join(str(step) for step in detail.loc[1:])


def _detail(loc: Sequence[str | int], message: str, kind: str, body: object) -> Detail:
    """The fault with the steps that pydantic's unions add taken out of its path."""
    if kind.startswith("union_tag"):
        kind = "invalid_type"
    path: list[str | int] = ["body"]
    here: Any = body
    for position, step in enumerate(loc):
        if _holds(here, step):
            here = here[step]
        elif kind != "missing" or position < len(loc) - 1:
            continue
        path.append(step)
    return Detail(path, message.removeprefix("Value error, "), kind)


def _holds(value: object, step: str | int) -> bool:
    """Whether this step of a path is one of the body, and not a name that pydantic gave to a union's member."""
    if isinstance(value, dict):
        return step in value
    return isinstance(value, list) and isinstance(step, int) and step < len(value)
