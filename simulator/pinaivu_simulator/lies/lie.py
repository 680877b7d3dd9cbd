"""What all lies share: everything passes through one, and passes on unless it says otherwise."""

import random
from collections.abc import Callable, Mapping
from typing import ClassVar

from pinaivu_shared.wire.link import Answer, Call, HostCommand
from pinaivu_simulator.lies.line import Line

Tell = Callable[[str, Mapping[str, object]], None]


class Lie:
    """Honest as it stands. One object lives through all connections, so a lie can use what it saw in an earlier one."""

    sentence: ClassVar[str] = "carries everything as it is"

    def __init__(self, chance: random.Random, tell: Tell) -> None:
        self.chance, self._tell = chance, tell

    async def ask(self, call: Call, line: Line) -> None:
        """The host says this: say it to the enclave, or something else, or nothing."""
        await line.ask(call)

    async def answer(self, answer: Answer, line: Line) -> None:
        """The enclave says this: say it to the host, or something else, or nothing."""
        await line.answer(answer)

    def connected(self) -> None:
        """The host has reached the enclave through us."""
        self._tell("connected", {})

    def tell(self, request_id: str, **details: object) -> None:
        """Print that it lied about this job."""
        self._tell("lied", {"request_id": request_id, **details})


async def say(line: Line, call: Call, command: HostCommand) -> None:
    """Another command in place of the one that was called."""
    await line.ask(Call(call.id, command))
