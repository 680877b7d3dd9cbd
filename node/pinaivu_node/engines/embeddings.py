"""An engine's embeddings as an answer: one JSON array of base64, each the little-endian float32 of one input's vector.

Engines do not stream them, so the whole body is read, bounded, and checked before anything of it is passed on.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Final, Self

import msgspec

from pinaivu_node.engines.chunks import UsageCounts
from pinaivu_node.engines.events import NO_USAGE, EngineError, Event, Finish, Text, Usage
from pinaivu_node.engines.failures import TRANSPORT_ERRORS
from pinaivu_node.engines.request import EngineRequest
from pinaivu_shared.answers import embeddings_content, packed_vector

MAX_EMBEDDINGS_BYTES: Final = 16 << 20
_DIMENSIONS_MAX: Final = 65_536


class _Entry(msgspec.Struct):
    embedding: Annotated[list[float], msgspec.Meta(min_length=1, max_length=_DIMENSIONS_MAX)]
    index: int | None = None


class _Embeddings(msgspec.Struct):
    data: list[_Entry]
    usage: UsageCounts | None = None


_decode: Final = msgspec.json.Decoder(_Embeddings).decode


class EmbeddingsAnswer:
    """Iterate over it for the one batch of events. `ended` tells that it was read to its end, `usage` what it cost."""

    def __init__(self, chunks: AsyncIterator[bytes], request: EngineRequest) -> None:
        """`chunks` is the response body."""
        self._chunks, self._request = chunks, request
        self.usage: Usage = NO_USAGE
        self.ended = False

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> list[Event]:
        """All there is; EngineError for what are not the vectors that were asked for."""
        if self.ended:
            raise StopAsyncIteration
        found = _parsed(await self._body())
        vectors = [_packed(vector) for vector in self._in_order(found.data)]
        counted = found.usage or UsageCounts()
        self.usage, self.ended = Usage(counted.prompt_tokens), True
        return [Text(embeddings_content(vectors)), Finish("stop")]

    async def _body(self) -> bytes:
        body = bytearray()
        try:
            async for chunk in self._chunks:
                body += chunk
                if len(body) > MAX_EMBEDDINGS_BYTES:
                    raise _wrong(f"more than {MAX_EMBEDDINGS_BYTES} bytes")
        except TRANSPORT_ERRORS as error:
            raise EngineError("engine_unavailable", f"the answer broke off: {type(error).__name__}") from error
        return bytes(body)

    def _in_order(self, entries: list[_Entry]) -> list[list[float]]:
        """The vectors by their index, once there are as many as inputs and all are of one length."""
        by_index = {
            place if entry.index is None else entry.index: entry.embedding for place, entry in enumerate(entries)
        }
        if len(entries) != self._request.inputs or set(by_index) != set(range(self._request.inputs)):
            raise _wrong(f"{len(entries)} of them for {self._request.inputs} inputs, or numbered wrongly")
        lengths = {len(vector) for vector in by_index.values()}
        if len(lengths) != 1:
            raise _wrong("of several lengths")
        (length,) = lengths
        if self._request.dimensions not in {0, length}:
            raise EngineError("unsupported_request", f"dimensions: this model's embeddings have {length}")
        return [by_index[index] for index in range(self._request.inputs)]


def _parsed(body: bytes) -> _Embeddings:
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong("of another shape") from error


def _packed(vector: list[float]) -> str:
    """Base64 of a vector; its numbers are finite, because JSON has no others."""
    try:
        return packed_vector(vector)
    except OverflowError as error:
        raise _wrong("beyond float32") from error


def _wrong(what: str) -> EngineError:
    return EngineError("engine_unavailable", f"the engine's embeddings are {what}")
