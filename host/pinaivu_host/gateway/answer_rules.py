"""What a node may send of an answer: pieces in their order, of what was asked for, and no more than was awarded."""

from typing import Final

from pinaivu_host.gateway.answer import shown_logprobs
from pinaivu_host.gateway.call_order import CallOrder
from pinaivu_host.gateway.order import Order
from pinaivu_shared.errors import PeerError
from pinaivu_shared.terms import Award
from pinaivu_shared.wire.node import Delta

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""What a node may send for one job, its framing included; an unstreamed answer is held whole."""
TOKEN_BYTES: Final = 256
"""A token with the message around it, or its log-probability: the longest of today's vocabularies have 128 bytes."""
VECTOR_BYTES: Final = 128 * 1024
"""More than 24,000 numbers; models have 4,096 or so."""
SPARE_BYTES: Final = 1024 * 1024
"""Beside the tokens: the proof, names of calls, an answer that a schema made in few tokens."""


class AnswerRules:
    """One answer as it comes. `ended` are the choices that have their finish_reason."""

    def __init__(self, order: Order) -> None:
        self._choices, needs = order.ask.choices, order.command.needs
        self._with_calls, self._with_logprobs = "tools" in needs, "logprobs" in needs
        self._calls = CallOrder(self._choices)
        self._ended: set[int] = set()

    @property
    def finished(self) -> bool:
        """Whether every choice has its finish_reason."""
        return len(self._ended) == self._choices

    def takes(self, delta: Delta) -> bool:
        """Whether this piece may come next; if so it has.

        A tool call that nobody asked for would be shown to nobody, or keep its answer from being recounted.
        """
        if delta.index >= self._choices or delta.index in self._ended:
            return False
        if (delta.tool_calls and not self._with_calls) or not self._calls.takes(delta):
            return False
        if delta.finish_reason:
            self._ended.add(delta.index)
        return not self._with_logprobs or _have_their_shape(delta)

    def begins(self, delta: Delta) -> bool:
        """Whether the caller gets to see anything of this piece. A token may have a log-probability and no text yet."""
        if delta.content or delta.tool_calls or delta.finish_reason:
            return True
        return self._with_logprobs and bool(shown_logprobs(delta))


def answer_bytes_max(order: Order, award: Award) -> int:
    """What a node may send for this award: more is no honest answer to it, whatever the tokens."""
    if "embeddings" in order.command.needs:
        return min(SPARE_BYTES + VECTOR_BYTES * len(order.ask.forwarded["input"]), ANSWER_BYTES_MAX)
    entries = 1 + (order.ask.forwarded.get("top_logprobs") or 0) if "logprobs" in order.command.needs else 0
    repeated = award.request_bytes * order.ask.choices  # an echo engine's tokens are words, however long
    return min(SPARE_BYTES + repeated + award.max_completion_tokens * TOKEN_BYTES * (1 + entries), ANSWER_BYTES_MAX)


def _have_their_shape(delta: Delta) -> bool:
    try:
        shown_logprobs(delta)
    except PeerError:
        return False
    return True
