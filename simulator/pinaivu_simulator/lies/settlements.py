"""Lies about settlements: what was delivered, what was proven, and how often."""

import random
from typing import ClassVar, Final

import msgspec

from pinaivu_shared.signed import Signed
from pinaivu_shared.wire.link import (
    AcceptAward,
    Answer,
    AwardAccepted,
    Call,
    Delivery,
    Refused,
    ReportProof,
    SettleJob,
)
from pinaivu_simulator.lies.jobs import OTHER
from pinaivu_simulator.lies.lie import Lie, Tell
from pinaivu_simulator.lies.line import Line

_PLENTY: Final = 1_000_000


class _OfSettlements(Lie):
    """Changes each settlement on its way."""

    async def ask(self, call: Call, line: Line) -> None:
        """Another settlement."""
        if isinstance(call.command, SettleJob):
            self.tell(call.command.request_id)
            call = Call(call.id, self.changed(call.command))
        await line.ask(call)

    def changed(self, settlement: SettleJob) -> SettleJob:
        """What the enclave shall hear."""
        raise NotImplementedError


class MoreDelivered(_OfSettlements):
    """With a node of its own the host would bill what no caller got."""

    sentence: ClassVar[str] = "says that each caller was handed a million bytes"

    def changed(self, settlement: SettleJob) -> SettleJob:
        """More bytes."""
        return _with_delivery(settlement, delivered_bytes=_PLENTY, recounted_tokens=None)


class LessDelivered(_OfSettlements):
    """The node shall be paid for less than it generated."""

    sentence: ClassVar[str] = "says that each caller was handed a single byte"

    def changed(self, settlement: SettleJob) -> SettleJob:
        """Fewer bytes."""
        return _with_delivery(settlement, delivered_bytes=1)


class FalseRecount(_OfSettlements):
    """The node shall be paid for less than it generated, by a count that nobody can check without the text."""

    sentence: ClassVar[str] = "says that each answer, counted again, has a single token"

    def changed(self, settlement: SettleJob) -> SettleJob:
        """Fewer tokens."""
        return _with_delivery(settlement, recounted_tokens=1)


class OtherResponse(_OfSettlements):
    """The receipt shall be about another answer than was given."""

    sentence: ClassVar[str] = "settles each job with another commitment to its answer"

    def changed(self, settlement: SettleJob) -> SettleJob:
        """Another answer."""
        return _with_delivery(settlement, response_commitment=OTHER)


class WithheldProof(_OfSettlements):
    """The node shall not be paid."""

    sentence: ClassVar[str] = "settles each job without its node's proof"

    def changed(self, settlement: SettleJob) -> SettleJob:
        """No proof."""
        return msgspec.structs.replace(settlement, proof=None)


class ReplayedProof(_OfSettlements):
    """One proof shall pay for all jobs."""

    sentence: ClassVar[str] = "settles each job after the first with the proof of the first"

    def __init__(self, chance: random.Random, tell: Tell) -> None:
        super().__init__(chance, tell)
        self._first: Signed | None = None

    def changed(self, settlement: SettleJob) -> SettleJob:
        """The old proof."""
        self._first = self._first or settlement.proof
        return msgspec.structs.replace(settlement, proof=self._first)


class NeverRan(Lie):
    """The node is not even asked; its acceptance is thrown away."""

    sentence: ClassVar[str] = "keeps each acceptance to itself and settles as if the node had run and delivered"

    async def ask(self, call: Call, line: Line) -> None:
        """An acceptance that never arrives, and a delivery all the same."""
        if isinstance(call.command, AcceptAward):
            self.tell(call.command.request_id)
            await line.answer(Answer(call.id, AwardAccepted(call.command.request_id)))
            return
        await line.ask(call)


class ProofTwice(Lie):
    """The node shall be suspended for two proofs that are one."""

    sentence: ClassVar[str] = "reports the proof of each settled job once more"

    async def ask(self, call: Call, line: Line) -> None:
        """The settlement, then its own proof again."""
        await line.ask(call)
        if isinstance(call.command, SettleJob) and call.command.proof is not None:
            result = await line.inject(ReportProof(call.command.request_id, call.command.proof))
            self.tell(call.command.request_id, answer=_named(result))


class SettledTwice(Lie):
    """The second settlement shall pay as well, and more."""

    sentence: ClassVar[str] = "settles each job a second time, with more delivered"

    async def ask(self, call: Call, line: Line) -> None:
        """The settlement, then another one of the same job."""
        await line.ask(call)
        if isinstance(call.command, SettleJob):
            result = await line.inject(_with_delivery(call.command, delivered_bytes=_PLENTY))
            self.tell(call.command.request_id, answer=_named(result))


def _with_delivery(settlement: SettleJob, **changes: object) -> SettleJob:
    delivery: Delivery = msgspec.structs.replace(settlement.delivery, **changes)
    return msgspec.structs.replace(settlement, delivery=delivery)


def _named(result: object) -> str:
    return result.code if isinstance(result, Refused) else type(result).__name__
