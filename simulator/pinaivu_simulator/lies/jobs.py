"""Lies about jobs: commitments that are others, failures that were none, jobs that nobody asked for."""

import random
from typing import ClassVar, Final

import msgspec

from pinaivu_shared.ids import make_request_id
from pinaivu_shared.signed import Signed
from pinaivu_shared.wire.link import AcceptAward, Awarded, Call, Delivery, OpenJob, ReportFailure, SettleJob
from pinaivu_simulator.clock import now_ms
from pinaivu_simulator.lies.lie import Lie, Tell, say
from pinaivu_simulator.lies.line import Line

OTHER: Final = "sha256:" + "0" * 64
NOTHING: Final = Delivery(0, "")


class ChangedRequest(Lie):
    """The receipt shall be about another request than the caller made."""

    sentence: ClassVar[str] = "opens each job with another commitment to the caller's request"

    async def ask(self, call: Call, line: Line) -> None:
        """Another request."""
        if isinstance(call.command, OpenJob):
            self.tell(call.command.request_id)
            call = Call(call.id, msgspec.structs.replace(call.command, request_commitment=OTHER))
        await line.ask(call)


class ChangedForwarded(Lie):
    """The node shall work on another request than it was awarded."""

    sentence: ClassVar[str] = "opens each job with another commitment to what the node gets"

    async def ask(self, call: Call, line: Line) -> None:
        """Another forwarded part."""
        if isinstance(call.command, OpenJob):
            self.tell(call.command.request_id)
            call = Call(call.id, msgspec.structs.replace(call.command, forwarded_commitment=OTHER))
        await line.ask(call)


class WrongFailure(Lie):
    """The answer was delivered; the node shall not be paid for it."""

    sentence: ClassVar[str] = "says of each answer that the node failed"

    async def ask(self, call: Call, line: Line) -> None:
        """Failed, with all the node's evidence withheld."""
        if isinstance(call.command, SettleJob):
            self.tell(call.command.request_id)
            failed = SettleJob(call.command.request_id, "failed", "node_failed", NOTHING, None)
            call = Call(call.id, failed)
        await line.ask(call)


class WrongFirstFailure(Lie):
    """The node that won shall lose the job to the next one."""

    sentence: ClassVar[str] = "reports a timeout of each first award before its node can accept"

    def __init__(self, chance: random.Random, tell: Tell) -> None:
        super().__init__(chance, tell)
        self._slandered: set[str] = set()

    async def ask(self, call: Call, line: Line) -> None:
        """The failure first, and then the acceptance of an award that is not in force."""
        command = call.command
        if isinstance(command, AcceptAward) and command.request_id not in self._slandered:
            self._slandered.add(command.request_id)
            again = await line.inject(ReportFailure(command.request_id, 1, "timeout"))
            self.tell(command.request_id, answer=type(again).__name__)
        await line.ask(call)


class UnaskedJobs(Lie):
    """The customer shall pay for what nobody asked."""

    sentence: ClassVar[str] = "opens, beside each job, another on the same account, and settles it as delivered"

    async def ask(self, call: Call, line: Line) -> None:
        """The real one, then one of its own invention with an invented delivery."""
        await line.ask(call)
        if isinstance(call.command, OpenJob):
            invented = make_request_id(now_ms(), self.chance.randbytes(10))
            opened = await line.inject(msgspec.structs.replace(call.command, request_id=invented))
            self.tell(invented, beside=call.command.request_id, answer=type(opened).__name__)
            if isinstance(opened, Awarded):
                await line.inject(SettleJob(invented, "completed", "", Delivery(1000, OTHER), None))


class AcceptanceOfAnother(Lie):
    """What a node agreed to once shall count for all later awards."""

    sentence: ClassVar[str] = "hands in, for each job after the first, the acceptance of the first"

    def __init__(self, chance: random.Random, tell: Tell) -> None:
        super().__init__(chance, tell)
        self._first: Signed | None = None

    async def ask(self, call: Call, line: Line) -> None:
        """The old acceptance."""
        if isinstance(call.command, AcceptAward):
            if self._first is not None:
                self.tell(call.command.request_id)
            self._first = self._first or call.command.acceptance
            await say(line, call, AcceptAward(call.command.request_id, self._first))
            return
        await line.ask(call)
