"""What `POST /v1/chat/completions` answers, whole and in chunks, as types for the OpenAPI document."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from pinaivu_host.gateway.answer import TokenLogprob
from pinaivu_host.gateway.openapi.answers import Answer, Count, Seconds
from pinaivu_shared.ids import RequestId

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
Index = Annotated[int, Meta(ge=0)]


class Usage(Answer):
    """Tokens, as they are charged."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count


class CalledFunctionShown(Answer):
    """Name and arguments of a call; the arguments are JSON as text."""

    name: str
    arguments: str


class ToolCallShown(Answer):
    """A call that the model wants made."""

    id: str
    type: Literal["function"]
    function: CalledFunctionShown


class Logprobs(Answer):
    """Log-probabilities of an answer's tokens."""

    content: list[TokenLogprob]
    refusal: None


class ChatMessage(Answer, kw_only=True):
    """The answer."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCallShown] | UnsetType = UNSET


class ChatChoice(Answer):
    """One of the answers that were asked for."""

    index: Index
    message: ChatMessage
    logprobs: Logprobs | None
    finish_reason: FinishReason


class ChatCompletion(Answer, kw_only=True):
    """A whole answer. `service_tier` is there where one was asked for."""

    id: str
    object: Literal["chat.completion"]
    created: Seconds
    model: str
    service_tier: Literal["default"] | UnsetType = UNSET
    choices: list[ChatChoice]
    usage: Usage
    request_id: RequestId


class FunctionDelta(Answer, kw_only=True):
    """A piece of a call; its name comes with the first."""

    name: str | UnsetType = UNSET
    arguments: str


class ToolCallDeltaShown(Answer, kw_only=True):
    """A piece of the call `index`; id and type come with the first."""

    index: Index
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionDelta


class ChatDelta(Answer, kw_only=True):
    """What is new."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDeltaShown] | UnsetType = UNSET


class ChunkChoice(Answer, kw_only=True):
    """What is new of one choice."""

    index: Index
    delta: ChatDelta
    logprobs: Logprobs | UnsetType = UNSET
    finish_reason: FinishReason | None


class ChatCompletionChunk(Answer, kw_only=True):
    """An event of a stream. Asked for, `usage` is null on all chunks but the last, which has no choices."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: Seconds
    model: str
    service_tier: Literal["default"] | UnsetType = UNSET
    request_id: RequestId
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET


class CompletionChoice(Answer):
    """One of the continuations that were asked for."""

    text: str
    index: Index
    logprobs: None
    finish_reason: FinishReason


class Completion(Answer, kw_only=True):
    """A whole continuation. `service_tier` is there where one was asked for."""

    id: str
    object: Literal["text_completion"]
    created: Seconds
    model: str
    service_tier: Literal["default"] | UnsetType = UNSET
    choices: list[CompletionChoice]
    usage: Usage
    request_id: RequestId


class CompletionChunkChoice(Answer):
    """A piece of a continuation."""

    text: str
    index: Index
    logprobs: None
    finish_reason: FinishReason | None


class CompletionChunk(Answer, kw_only=True):
    """An event of a stream, as with chats."""

    id: str
    object: Literal["text_completion"]
    created: Seconds
    model: str
    service_tier: Literal["default"] | UnsetType = UNSET
    request_id: RequestId
    choices: list[CompletionChunkChoice]
    usage: Usage | UnsetType | None = UNSET


class EmbeddingsUsage(Answer):
    """Tokens, as they are charged."""

    prompt_tokens: Count
    total_tokens: Count


class Embedding(Answer):
    """A vector, as numbers or as base64 of little-endian float32."""

    object: Literal["embedding"]
    index: Index
    embedding: list[float] | str


class Embeddings(Answer):
    """A vector for each input, in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage
    request_id: RequestId
