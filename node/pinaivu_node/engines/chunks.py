"""One event of an OpenAI-protocol stream, decoded: what is used of it, and nothing else.

Shapes differ among engines: `content` may be null, usage may come with every chunk or in one of its own, llama.cpp adds
`timings`, SGLang's errors have no envelope.
"""

import json
from typing import Annotated, Any, Final

import msgspec

from pinaivu_node.engines.events import EngineError

Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class FunctionPiece(msgspec.Struct):
    """Name, once, and a piece of the arguments of one tool call."""

    name: str | None = None
    arguments: str | None = None


class ToolCallPiece(msgspec.Struct):
    """A piece of one tool call; a whole one in Ollama's streams."""

    index: Annotated[int, msgspec.Meta(ge=0, le=1024)] | None = None
    id: str | None = None
    function: FunctionPiece | None = None


class Delta(msgspec.Struct):
    """What a chunk adds. Reasoning text (`reasoning`, `reasoning_content`) is not read: it is no part of the answer."""

    content: str | None = None
    tool_calls: list[ToolCallPiece] | None = None


class TokenLogprob(msgspec.Struct):
    """Log-probability of one token, as OpenAI spells it."""

    token: str
    logprob: float
    bytes: list[Byte] | None = None
    top_logprobs: list["TokenLogprob"] = []


class Logprobs(msgspec.Struct):
    """Log-probabilities of the tokens of one chunk."""

    content: list[TokenLogprob] | None = None


class Choice(msgspec.Struct):
    """One choice of a chunk: `delta` in a chat, `text` in a completion."""

    index: int = 0
    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class UsageCounts(msgspec.Struct):
    """Usage so far, or of the whole answer."""

    prompt_tokens: Count = 0
    completion_tokens: Count = 0


class Timings(msgspec.Struct):
    """llama.cpp's counts so far; `prompt_n` leaves out the tokens it had in its cache."""

    cache_n: Count = 0
    prompt_n: Count = 0
    predicted_n: Count = 0


class Chunk(msgspec.Struct):
    """`chat.completion.chunk` or a streamed `text_completion`, or an error in its place."""

    choices: list[Choice] | None = None
    usage: UsageCounts | None = None
    timings: Timings | None = None
    error: Any = None
    object: str = ""


_decoder: Final = msgspec.json.Decoder(Chunk)


def decode_chunk(data: bytes) -> Chunk:
    """The chunk in an event's data; EngineError for what is none.

    Text cut inside a character makes JSON that no strict reader takes: such an event is read leniently, and its text
    comes with surrogates in it (`characters.WholeCharacters`).
    """
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise EngineError("engine_unavailable", f"an event of another shape: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_leniently(data)


def _decode_leniently(data: bytes) -> Chunk:
    try:
        chunk = msgspec.convert(json.loads(data.decode("utf-8", "surrogateescape")), Chunk)
    except (ValueError, RecursionError) as error:  # msgspec.ValidationError is a ValueError
        raise EngineError("engine_unavailable", "an event that is not JSON") from error
    for choice in chunk.choices or ():
        choice.logprobs = None  # tokens of half characters cannot be told in JSON
    return chunk
