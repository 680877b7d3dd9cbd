"""Lies about when and how often: what is said is true, but not then, not in this order, not once."""

import random
from typing import ClassVar, Final

import trio

from pinaivu_shared.wire.link import (
    AcceptAward,
    Answer,
    AwardAccepted,
    Call,
    OpenJob,
    ReportFailure,
    ReportFirstToken,
    SettleJob,
)
from pinaivu_simulator.lies.lie import Lie, Tell
from pinaivu_simulator.lies.line import Line

_DELAY_SECONDS_MAX: Final = 0.05
_OF_JOBS: Final = (OpenJob, AcceptAward, ReportFirstToken, ReportFailure, SettleJob)


class Drop(Lie):
    """The host waits for an answer that will not come."""

    sentence: ClassVar[str] = "loses every settlement"

    async def ask(self, call: Call, line: Line) -> None:
        """All but settlements."""
        if isinstance(call.command, SettleJob):
            self.tell(call.command.request_id)
            return
        await line.ask(call)


class Duplicate(Lie):
    """What was done once shall count twice."""

    sentence: ClassVar[str] = "gives every command about a job twice"

    async def ask(self, call: Call, line: Line) -> None:
        """The host's own, then the same again."""
        await line.ask(call)
        if isinstance(call.command, _OF_JOBS):
            again = await line.inject(call.command)
            self.tell(call.command.request_id, command=type(call.command).__name__, answer=_named(again))


class Reorder(Lie):
    """The host is told that the acceptance arrived; it arrives after the settlement."""

    sentence: ClassVar[str] = "hands in each acceptance after the settlement of its job"

    def __init__(self, chance: random.Random, tell: Tell) -> None:
        super().__init__(chance, tell)
        self._held: dict[str, AcceptAward] = {}

    async def ask(self, call: Call, line: Line) -> None:
        """Acceptances wait for their settlement."""
        match call.command:
            case AcceptAward() as command:
                self._held[command.request_id] = command
                await line.answer(Answer(call.id, AwardAccepted(command.request_id)))
            case SettleJob() as command:
                await line.ask(call)
                held = self._held.pop(command.request_id, None)
                late = await line.inject(held) if held else None
                self.tell(command.request_id, answer=_named(late))
            case _:
                await line.ask(call)


class Delay(Lie):
    """Slower by chance, in the right order."""

    sentence: ClassVar[str] = "holds every frame back for up to 50 ms"

    async def ask(self, call: Call, line: Line) -> None:
        """Later."""
        await trio.sleep(self.chance.uniform(0, _DELAY_SECONDS_MAX))
        if isinstance(call.command, SettleJob):
            self.tell(call.command.request_id)
        await line.ask(call)

    async def answer(self, answer: Answer, line: Line) -> None:
        """Later."""
        await trio.sleep(self.chance.uniform(0, _DELAY_SECONDS_MAX))
        await line.answer(answer)


def _named(result: object) -> str:
    """The refusal's code, or what it was answered with."""
    return str(getattr(result, "code", type(result).__name__))
