"""The body of `POST /v1/completions`, OpenAI's legacy endpoint: one text, continued.

What needs token ids, several prompts or the engine's own tokens (`logprobs`, `echo`) is refused by name: nodes of
different engines would answer it differently.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Discriminator, Field, Tag

from pinaivu_host.gateway.chat_rules import CHOICES_MAX
from pinaivu_host.gateway.error_table import INVALID_REQUEST, UNSUPPORTED_PARAMETER
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.messages import Shape
from pinaivu_host.gateway.validation import (
    Number,
    Penalty,
    PositiveInt,
    Seed,
    Stop,
    StreamOptions,
    TextOrTokens,
    Whole,
    one_or_many,
)

MOVED: Final[Mapping[str, str]] = {
    "max_completion_tokens": "use max_tokens",
    "response_format": "ask POST /v1/chat/completions",
    "tools": "ask POST /v1/chat/completions",
}
"""What chats have that changes an answer or its price."""


class CompletionRequest(Shape):
    """Everything of a request that matters here. Keys that are not listed are ignored."""

    model: Annotated[str, Field(min_length=1)]
    prompt: Annotated[
        Annotated[str, Tag("one")] | Annotated[list[TextOrTokens], Field(min_length=1, fail_fast=True), Tag("many")],
        Discriminator(one_or_many),
    ]
    best_of: Annotated[int, Field(ge=1, le=20), Whole] | None = None
    echo: bool | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Any = None
    logprobs: Annotated[int, Field(ge=0, le=5), Whole] | None = None
    max_tokens: PositiveInt | None = None
    n: Annotated[int, Field(ge=1, le=128), Whole] | None = None
    presence_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    suffix: str | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None

    @property
    def choices(self) -> int:
        """How many continuations are wanted."""
        return self.n or 1

    def check_prompt(self) -> None:
        """Raise ApiError (400) for several prompts, for empty text, or for token ids."""
        match self.prompt:
            case "" | [""]:
                raise ApiError(INVALID_REQUEST, "prompt must not be empty text", param="prompt")
            case str() | [str()]:
                return
            case [str(), *_]:
                raise ApiError(
                    UNSUPPORTED_PARAMETER, "several prompts are not supported: send a request for each", param="prompt"
                )
            case _:
                raise ApiError(
                    UNSUPPORTED_PARAMETER, "prompt must be text: nodes differ in their token ids", param="prompt"
                )


def check_completion(asked: CompletionRequest) -> None:
    """Raise ApiError (400) unless some node could serve this request."""
    if asked.stream_options is not None and not asked.stream:
        raise ApiError(INVALID_REQUEST, "stream_options needs stream: true", param="stream_options")
    if asked.best_of is not None and asked.best_of < asked.choices:
        raise ApiError(INVALID_REQUEST, "best_of must not be below n", param="best_of")
    refused = {
        "n": asked.choices > CHOICES_MAX,
        "best_of": asked.best_of not in {None, asked.choices},
        "echo": bool(asked.echo),
        "logit_bias": bool(asked.logit_bias),
        "logprobs": asked.logprobs is not None,
        "suffix": bool(asked.suffix),
    }
    for name, is_refused in refused.items():
        if is_refused:
            hint = f"n above {CHOICES_MAX} is not supported" if name == "n" else f"{name} is not supported here"
            raise ApiError(UNSUPPORTED_PARAMETER, hint, param=name)
    asked.check_prompt()
