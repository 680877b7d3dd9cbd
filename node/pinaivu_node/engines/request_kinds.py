"""The three kinds of requests: where each is sent, its types and ranges (OpenAI's), and what it needs of an engine."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from pinaivu_shared.terms import Capability

CHOICES_MAX: Final = 128
INPUTS_MAX: Final = 2048
_Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]


class _ImageUrl(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    type: str
    image_url: _ImageUrl | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Generation(msgspec.Struct, kw_only=True):
    """What chats and completions share."""

    n: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], msgspec.Meta(max_length=4)] | None = None

    def needs(self) -> Iterator[Capability]:
        if (self.n or 1) > 1:
            yield "multiple_choices"


class ChatRequest(_Generation, kw_only=True):
    """`CreateChatCompletionRequest`, as far as it is forwarded."""

    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None

    def needs(self) -> Iterator[Capability]:
        """What its engine must be able to do; not `reasoning_effort`, which is only passed on where it can be."""
        yield "chat"
        yield from super().needs()
        if self.pictures():
            yield "images"
        if self.logprobs:
            yield "logprobs"
        if self.tools:
            yield "tools"
        match (self.response_format or {}).get("type"):
            case "json_object":
                yield "json_object"
            case "json_schema":
                yield "json_schema"
            case _:
                pass

    def pictures(self) -> list[str]:
        """The URLs of all pictures."""
        contents = [message.content for message in self.messages if isinstance(message.content, list)]
        return [part.image_url.url for content in contents for part in content if part.image_url is not None]


class CompletionRequest(_Generation, kw_only=True):
    """`CreateCompletionRequest`, as far as it is forwarded: one prompt, which may stand in a list."""

    prompt: str | Annotated[list[str], msgspec.Meta(min_length=1, max_length=1)]
    suffix: str | None = None
    echo: bool | None = None

    def needs(self) -> Iterator[Capability]:
        """What its engine must be able to do."""
        yield "completions"
        yield from super().needs()


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """`CreateEmbeddingRequest`, as far as it is forwarded."""

    input: str | Annotated[list[str], msgspec.Meta(min_length=1, max_length=INPUTS_MAX)]
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=65536)] | None = None

    def needs(self) -> Iterator[Capability]:
        """What its engine must be able to do."""
        yield "embeddings"

    def inputs(self) -> int:
        """How many vectors are wanted."""
        return 1 if isinstance(self.input, str) else len(self.input)


Request = ChatRequest | CompletionRequest | EmbeddingRequest


class Kind(NamedTuple):
    """The key of a body that tells its kind, where it is sent, and its shape."""

    key: str
    path: str
    shape: type[Request]


KINDS: Final = (
    Kind("messages", "/v1/chat/completions", ChatRequest),
    Kind("prompt", "/v1/completions", CompletionRequest),
    Kind("input", "/v1/embeddings", EmbeddingRequest),
)
