"""The echo engine's embeddings: unit vectors that anybody can compute again from the texts."""

import hashlib
import math
from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec

from pinaivu_node.engines.echo_answer import usage_of
from pinaivu_node.engines.echo_settings import Fault

DIMENSIONS: Final = 32


class EmbeddingBody(msgspec.Struct, kw_only=True):
    """What is read of a request for embeddings."""

    input: str | list[str]
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=4096)] = DIMENSIONS

    def texts(self) -> list[str]:
        """Each text that is to have a vector."""
        return [self.input] if isinstance(self.input, str) else self.input

    def tokens(self) -> int:
        """The words of all texts."""
        return sum(len(text.split()) for text in self.texts())


def embeddings(body: EmbeddingBody, model: str, fault: Fault) -> dict[str, Any]:
    """OpenAI's list of embeddings, as numbers."""
    vectors = [unit_vector(text, body.dimensions) for text in body.texts()]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    counted = usage_of(body.tokens(), 0, fault)
    usage = {name: counted[name] for name in ("prompt_tokens", "total_tokens")} if counted else None
    return {"object": "list", "data": data, "model": model} | ({"usage": usage} if usage else {})


def unit_vector(text: str, dimensions: int) -> list[float]:
    """A direction made of SHA-256 of the text: its bytes less 127.5, then those of SHA-256 of it and a counter."""
    numbers = [byte - 127.5 for _, byte in zip(range(dimensions), _digest_bytes(text), strict=False)]
    length = math.sqrt(sum(number * number for number in numbers))
    return [number / length for number in numbers]


def _digest_bytes(text: str) -> Iterator[int]:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    yield from digest
    counter = 0
    while True:
        counter += 1
        yield from hashlib.sha256(digest + counter.to_bytes(4)).digest()
