"""The messages of a chat, as a caller may send them (OpenAI's reference). Null stands for absent.

Strict: a number is no string, a boolean is no number. Unknown keys are ignored: they are committed to, and reach no
node (`forwarded_members`).
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

PARTS_MAX = 1024
TOOL_CALLS_MAX = 128

_Item = TypeVar("_Item")


class Shape(BaseModel):
    """Base of everything a caller sends."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class TextPart(Shape):
    """A piece of text."""

    type: Literal["text"]
    text: str


class RefusalPart(Shape):
    """What an assistant refused to say."""

    type: Literal["refusal"]
    refusal: str


class ImageUrl(Shape):
    """An image; only `data:` URLs are served."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Shape):
    """An image in a user's message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class AudioPart(Shape):
    """Sound in a user's message."""

    type: Literal["input_audio"]
    input_audio: dict[str, Any]


class FilePart(Shape):
    """A file in a user's message."""

    type: Literal["file"]
    file: dict[str, Any]


def _text_or_parts(value: object) -> str:
    return "parts" if isinstance(value, list) else "text"


UserPart = Annotated[TextPart | ImagePart | AudioPart | FilePart, Discriminator("type")]
AssistantPart = Annotated[TextPart | RefusalPart, Discriminator("type")]
Parts = Annotated[list[_Item], Field(min_length=1, max_length=PARTS_MAX, fail_fast=True), Tag("parts")]
Plain = Annotated[str, Tag("text")]
TextContent = Annotated[Plain | Parts[TextPart], Discriminator(_text_or_parts)]
UserContent = Annotated[Plain | Parts[UserPart], Discriminator(_text_or_parts)]
AssistantContent = Annotated[Plain | Parts[AssistantPart], Discriminator(_text_or_parts)]


class CalledFunction(Shape):
    """Name and arguments of a call; the arguments are JSON as text."""

    name: str
    arguments: str


class ToolCall(Shape):
    """A call that the assistant made."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class SystemMessage(Shape):
    """Instructions."""

    role: Literal["system", "developer"]
    content: TextContent
    name: str | None = None


class UserMessage(Shape):
    """What the user says and shows."""

    role: Literal["user"]
    content: UserContent
    name: str | None = None


class AssistantMessage(Shape):
    """An earlier answer. Its content may be missing only where it called tools or refused."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=TOOL_CALLS_MAX, fail_fast=True)] | None = None
    name: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "AssistantMessage":
        if self.content is None and not self.tool_calls and self.refusal is None:
            raise ValueError("content may be left out only with tool_calls or refusal")
        return self


class ToolMessage(Shape):
    """The result of a tool call."""

    role: Literal["tool"]
    content: TextContent
    tool_call_id: str
    name: str | None = None


class FunctionMessage(Shape):
    """The result of a function call, in the old way."""

    role: Literal["function"]
    content: str
    name: str


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage, Discriminator("role")
]
