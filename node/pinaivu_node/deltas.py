"""The deltas of an engine's event: one, or several where one message could not hold it.

What is cut is text, tool calls' arguments and lists of log-probabilities; joined they are what they were. Each piece is
far below the bound of a message (`MAX_NODE_MESSAGE_BYTES`).
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, Final

import msgspec

from pinaivu_node.engines.events import EngineError, Event, Finish, Text, ToolCalls
from pinaivu_shared.wire.node import NO_LOGPROBS, Delta, ToolCallDelta

PIECE_CHARACTERS: Final = 64 * 1024
"""A quarter of a megabyte at most."""
LOGPROBS_BYTES_MAX: Final = 256 * 1024


def deltas_of(request_id: str, event: Event) -> Iterator[Delta]:
    """What to send for this event, in order; EngineError for what cannot be sent."""
    match event:
        case Text(content=content, logprobs=logprobs, index=index):
            encoded = [] if logprobs is None else list(_encoded(logprobs["content"]))
            for piece, told in zip_longest(_cut(content), encoded):
                yield Delta(request_id, piece or "", index, logprobs=told or NO_LOGPROBS)
        case ToolCalls(calls=calls, index=index):
            for pieces in _messages(calls):
                yield Delta(request_id, index=index, tool_calls=pieces)
        case Finish(reason=reason, index=index):
            yield Delta(request_id, index=index, finish_reason=reason)


def _cut(text: str) -> list[str]:
    return [text[start : start + PIECE_CHARACTERS] for start in range(0, len(text), PIECE_CHARACTERS)] or [""]


def _encoded(tokens: Sequence[Any]) -> Iterator[msgspec.Raw]:
    """Log-probabilities of OpenAI's shape as msgpack, halved until each piece is small enough."""
    raw = msgspec.msgpack.encode({"content": tokens})
    if len(raw) <= LOGPROBS_BYTES_MAX:
        yield msgspec.Raw(raw)
    elif len(tokens) == 1:
        raise EngineError(
            "engine_unavailable", f"log-probabilities of one token in more than {LOGPROBS_BYTES_MAX} bytes"
        )
    else:
        half = len(tokens) // 2
        yield from _encoded(tokens[:half])
        yield from _encoded(tokens[half:])


def _messages(calls: tuple[ToolCallDelta, ...]) -> Iterator[tuple[ToolCallDelta, ...]]:
    """All pieces in one message, as they came, or each in messages of its own."""
    if sum(len(call.id) + len(call.name) + len(call.arguments) for call in calls) <= PIECE_CHARACTERS:
        yield calls
        return
    for call in calls:
        if len(call.id) + len(call.name) > PIECE_CHARACTERS:
            raise EngineError("engine_unavailable", f"a tool call named in more than {PIECE_CHARACTERS} characters")
        first, *others = _cut(call.arguments)
        yield (msgspec.structs.replace(call, arguments=first),)
        for piece in others:
            yield (ToolCallDelta(call.index, arguments=piece),)
