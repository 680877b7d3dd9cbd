"""`POST /v1/embeddings`: what a body asks for, and the vectors that answer it.

A node sends them as content: the JSON text of an array with one base64 string of little-endian float32 for each input.
So what a receipt commits to is the same whether the caller wants numbers or base64.
"""

import base64
import math
import struct
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Never

import msgspec
from pydantic import Discriminator, Field, Tag

from pinaivu_host.gateway.answer import Answer
from pinaivu_host.gateway.ask import Ask
from pinaivu_host.gateway.envelope import Envelope
from pinaivu_host.gateway.error_table import INVALID_REQUEST, UNSUPPORTED_PARAMETER
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.messages import Shape
from pinaivu_host.gateway.parameter_names import ParameterNames
from pinaivu_host.gateway.validation import PositiveInt, TextOrTokens, one_or_many, read_request
from pinaivu_shared.answers import embeddings_content
from pinaivu_shared.forwarding import forwarded_of
from pinaivu_shared.receipt import Receipt

INPUTS_MAX: Final = 2048
FLOAT_BYTES: Final = 4
_texts: Final = msgspec.json.Decoder(list[str])


class EmbeddingsRequest(Shape):
    """Everything of a request that matters here. Keys that are not listed are ignored."""

    model: Annotated[str, Field(min_length=1)]
    input: Annotated[
        Annotated[str, Tag("one")]
        | Annotated[list[TextOrTokens], Field(min_length=1, max_length=INPUTS_MAX, fail_fast=True), Tag("many")],
        Discriminator(one_or_many),
    ]
    dimensions: PositiveInt | None = None
    encoding_format: Literal["float", "base64"] | None = None

    def check_input(self) -> None:
        """Raise ApiError (400) for token ids, or for empty texts."""
        inputs = [self.input] if isinstance(self.input, str) else self.input
        if not all(isinstance(one, str) for one in inputs):
            raise ApiError(UNSUPPORTED_PARAMETER, "input must be text: nodes differ in their token ids", param="input")
        if not all(inputs):
            raise ApiError(INVALID_REQUEST, "input must not be empty text", param="input")


def read_embeddings(body: dict[str, Any]) -> Ask:
    """The vectors that a body asks for; ApiError (400, 422)."""
    asked = read_request(EmbeddingsRequest, body)
    asked.check_input()
    forwarded = forwarded_of("embeddings", body)
    return Ask(
        model=asked.model,
        forwarded=forwarded,
        needs=("embeddings",),
        shape=EmbeddingsShape(len(forwarded["input"]), as_base64=asked.encoding_format == "base64"),
        names=ParameterNames(content="input"),
    )


@dataclass(frozen=True, slots=True)
class EmbeddingsShape:
    """So many vectors, as numbers or as base64."""

    inputs: int
    as_base64: bool

    def writer(self, _envelope: Envelope) -> Never:
        """There are no streams of vectors."""
        raise AssertionError("embeddings are not streamed")

    def whole(self, envelope: Envelope, answer: Answer, receipt: Receipt) -> dict[str, Any]:
        """The `list` object."""
        vectors = _texts.decode(answer.content())
        shown = [vector if self.as_base64 else _numbers(vector) for vector in vectors]
        return {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(shown)],
            "model": envelope.model,
            "usage": {"prompt_tokens": receipt.prompt_tokens, "total_tokens": receipt.prompt_tokens},
        }

    def holds(self, answer: Answer) -> bool:
        """Whether there is a vector of finite numbers for each input, all of one length, spelled as nodes are to.

        A caller who got numbers packs them again to open the commitment, so there may be one spelling only.
        """
        content = answer.content()
        try:
            vectors = [base64.b64decode(text, validate=True) for text in _texts.decode(content)]
            finite = all(map(_is_finite, vectors))
        except (msgspec.DecodeError, struct.error, ValueError):
            return False
        return (
            finite
            and len(vectors) == self.inputs
            and len({len(vector) for vector in vectors}) == 1
            and vectors[0] != b""
            and content == embeddings_content([base64.b64encode(vector).decode() for vector in vectors])
            and answer.finish_reason() == "stop"
        )


def _is_finite(packed: bytes) -> bool:
    return all(math.isfinite(number) for (number,) in struct.iter_unpack("<f", packed))


def _numbers(vector: str) -> list[float]:
    packed = base64.b64decode(vector)
    return list(struct.unpack(f"<{len(packed) // FLOAT_BYTES}f", packed))
