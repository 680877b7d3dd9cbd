"""Cheats about time: a node that takes a job and keeps everybody waiting, at each point where it can."""

from typing import ClassVar

from pinaivu_shared.wire.node import Accept, Delta, FromNode, Prove
from pinaivu_simulator.cheats.cheat import Cheat, Means, job_of
from pinaivu_simulator.cheats.wire import Wire


class StallBeforeAccept(Cheat):
    """Never says whether it takes the job."""

    sentence: ClassVar[str] = "neither accepts nor declines its awards"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """Nothing about jobs."""
        if job_of(message):
            if isinstance(message, Accept):
                self.tell("cheated", message.request_id)
            return
        await wire.send(message)


class StallBeforeFirstToken(Cheat):
    """Takes the job and does nothing."""

    sentence: ClassVar[str] = "accepts its awards and then says nothing"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """Nothing about jobs after the acceptance."""
        if isinstance(message, Accept):
            self.tell("cheated", message.request_id)
        elif job_of(message):
            return
        await wire.send(message)


class StallMidStream(Cheat):
    """After the first token no other node may take over."""

    sentence: ClassVar[str] = "sends the first piece of each answer and then nothing"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._begun: set[str] = set()

    async def send(self, message: FromNode, wire: Wire) -> None:
        """One piece for each job."""
        request_id = job_of(message)
        if request_id in self._begun:
            return
        if isinstance(message, Delta):
            self._begun.add(request_id)
            self.tell("cheated", request_id)
        await wire.send(message)


class StallBeforeProof(Cheat):
    """The caller has its answer, the market no proof of it."""

    sentence: ClassVar[str] = "answers and never proves it"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """All but the proof."""
        if isinstance(message, Prove):
            self.tell("cheated", message.request_id)
            return
        await wire.send(message)


class EndlessStream(Cheat):
    """Delivers for ever, beyond what its award allows, and does not hear that it is told to stop."""

    sentence: ClassVar[str] = "streams on and on, until the connection ends or the job is cancelled, and proves nothing"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """In place of its answer one without end; the agent's own is kept back."""
        if not isinstance(message, Accept):
            if not job_of(message):
                await wire.send(message)
            return
        await wire.send(message)
        self.tell("cheated", message.request_id)
        while message.request_id not in self.cancelled:
            await wire.send(Delta(message.request_id, "and so on " * 1_000))
