"""What a caller asks for, whichever endpoint it came to: what nodes get of it, and what its answer looks like."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pinaivu_host.gateway.answer import Answer
from pinaivu_host.gateway.envelope import Envelope
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.parameter_names import ParameterNames
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.terms import Capability
from pinaivu_shared.wire.node import Delta


class StreamWriter(Protocol):
    """Writes the server-sent events of one answer."""

    def begin(self) -> bytes:
        """What comes first; asked for once, before anything of the answer is there."""

    def delta(self, delta: Delta) -> bytes:
        """A piece of the answer, empty where nothing of it is shown; its finish_reason is not written here."""

    def finish(self, answer: Answer, receipt: Receipt) -> bytes:
        """The end of a complete answer, its usage where it was asked for."""

    def fail(self, error: ApiError) -> bytes:
        """The end of an answer that broke: nothing in it looks like a good end."""


class AnswerShape(Protocol):
    """How one endpoint shows an answer."""

    def writer(self, envelope: Envelope) -> StreamWriter:
        """For a caller who wants it piece by piece."""

    def whole(self, envelope: Envelope, answer: Answer, receipt: Receipt) -> dict[str, Any]:
        """For a caller who wants it at once: the JSON object, all but its request_id."""

    def holds(self, answer: Answer) -> bool:
        """Whether what a node sent can be shown at all; asked before it is paid for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request that was read and makes sense.

    `forwarded` is what a node gets of it. `max_tokens` is over all `choices` together, 0 where the caller set no limit.
    `needs` are sorted. `keeps_logprobs` says that log-probabilities are kept to the end, `stream` that they need not.
    `may_be_empty` says that its stop sequences may end an answer before it begins.
    `names` are what its endpoint calls the parameters that may be at fault later.
    """

    model: str
    forwarded: dict[str, Any]
    needs: tuple[Capability, ...]
    shape: AnswerShape
    max_tokens: int = 0
    choices: int = 1
    stream: bool = False
    keeps_logprobs: bool = False
    has_tier: bool = False
    may_be_empty: bool = False
    names: ParameterNames = field(default_factory=ParameterNames)

    def new_answer(self) -> Answer:
        """An answer to it with nothing in it yet."""
        return Answer(choices=self.choices, with_logprobs=self.keeps_logprobs)


ReadAsk = Callable[[dict[str, Any]], Ask]
"""Reads the parsed body of one endpoint; ApiError (400, 422) for what cannot be asked."""
