"""Cheats below the messages: bytes that are none, and frames that never come to an end."""

from typing import ClassVar

import msgspec

from pinaivu_shared.wire.node import Accept, FromNode, PostQuote, encode
from pinaivu_simulator.cheats.cheat import Cheat, job_of
from pinaivu_simulator.cheats.wire import Wire, fragment


class Garbage(Cheat):
    """Answers each award with bytes that mean nothing."""

    sentence: ClassVar[str] = "answers its awards with random bytes, cut or unknown messages, deep nesting, or text"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """Something else each time."""
        if isinstance(message, Accept):
            await wire.send_raw(self._garbage(message))
            self.tell("cheated", message.request_id)
        elif not job_of(message):
            await wire.send(message)

    def _garbage(self, message: Accept) -> bytes | str:
        whole, chance = encode(message), self.means.chance
        kinds: list[bytes | str] = [
            b"\xc1" + chance.randbytes(chance.randrange(4096)),
            whole[: chance.randrange(len(whole))],
            whole + b"\0",
            msgspec.msgpack.encode({"type": "Pay", "amount": 10**9}),
            b"\x91" * 100_000 + b"\xc0",
            "pay me",
        ]
        return chance.choice(kinds)


class TinyPieces(Cheat):
    """Slow, but honest in all it says."""

    sentence: ClassVar[str] = "sends every frame byte by byte, and is honest in all it says"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """Byte by byte from the first message on."""
        wire.dribble(1)
        if isinstance(message, Accept):
            self.tell("cheated", message.request_id)
        await wire.send(message)


class HalfFrame(Cheat):
    """Slow-loris: the frame is announced and never comes."""

    sentence: ClassVar[str] = "begins the frame with its acceptance and never ends it, nor answers a ping"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """The first bytes of the acceptance, and silence."""
        if isinstance(message, Accept):
            await wire.send_bytes(fragment(encode(message)[:100], first=True, last=True)[:50])
            wire.fall_silent()
            self.tell("cheated", message.request_id)
        elif not job_of(message):
            await wire.send(message)


class EndlessFragments(Cheat):
    """Slow-loris by the rules: every frame is whole, the message has no last one."""

    sentence: ClassVar[str] = "sends its acceptance in fragments of one byte, of which none is the last"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """Fragments until the gateway has had enough."""
        if isinstance(message, Accept):
            self.tell("cheated", message.request_id)
            await wire.send_bytes(fragment(b"", first=True, last=False))
            while message.request_id not in self.cancelled:
                await wire.send_bytes(fragment(b"\x91", first=False, last=False) * 64)
        elif not job_of(message):
            await wire.send(message)


class HalfHello(Cheat):
    """Occupies a place among those who register."""

    sentence: ClassVar[str] = "begins its Hello and never ends it"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """The first bytes of the first message."""
        assert not isinstance(message, PostQuote), "nobody registers with half a Hello"
        await wire.send_bytes(fragment(encode(message)[:100], first=True, last=True)[:50])
        wire.fall_silent()
        self.tell("cheated")
