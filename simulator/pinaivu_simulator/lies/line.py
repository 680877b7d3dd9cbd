"""The man in the middle of one connection: the host's frames in, the enclave's frames out, and the other way round.

To the enclave it is the host, which is the adversary anyway; so whatever the real host would never do is done here.
"""

import itertools
from typing import Final, Protocol

import msgspec
import trio

from pinaivu_shared.framing import FrameReader, frame
from pinaivu_shared.wire.link import MAX_FRAME_BYTES, Answer, Call, HostCommand, Push, Result

READ_BYTES: Final = 65_536
OWN_IDS_FROM: Final = 2**52
"""Ids of calls that the host did not make; its own are counted from 1."""

_calls: Final[msgspec.msgpack.Decoder[Call]] = msgspec.msgpack.Decoder(Call)
_answers: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)
_encoder: Final = msgspec.msgpack.Encoder()


class Line(Protocol):
    """What a lie has to work with."""

    async def ask(self, call: Call) -> None:
        """Give the enclave this call of the host's."""
        ...

    async def answer(self, answer: Answer) -> None:
        """Give the host this answer."""
        ...

    async def inject(self, command: HostCommand) -> Result | Push:
        """Give the enclave a command that the host knows nothing of; the answer. Not to be called from `Lie.answer`."""
        ...


class Teller(Protocol):
    """The two directions of a lie."""

    async def ask(self, call: Call, line: Line) -> None:
        """The host says this."""
        ...

    async def answer(self, answer: Answer, line: Line) -> None:
        """The enclave says this."""
        ...


class InterceptedLine:
    """A `Line` over two streams."""

    def __init__(self, host: trio.abc.Stream, enclave: trio.abc.Stream, lie: Teller) -> None:
        self._host, self._enclave, self._lie = host, enclave, lie
        self._own_ids = itertools.count(OWN_IDS_FROM)
        self._own: dict[int, trio.MemorySendChannel[Result | Push]] = {}
        self._to_host, self._to_enclave = trio.Lock(), trio.Lock()

    async def run(self) -> None:
        """Carry until one of the two ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry_up, nursery.cancel_scope)
            nursery.start_soon(self._carry_down, nursery.cancel_scope)

    async def ask(self, call: Call) -> None:
        """See `Line`."""
        async with self._to_enclave:
            await self._enclave.send_all(frame(_encoder.encode(call), max_bytes=MAX_FRAME_BYTES))

    async def answer(self, answer: Answer) -> None:
        """See `Line`."""
        async with self._to_host:
            await self._host.send_all(frame(_encoder.encode(answer), max_bytes=MAX_FRAME_BYTES))

    async def inject(self, command: HostCommand) -> Result | Push:
        """See `Line`."""
        number = next(self._own_ids)
        sender, receiver = trio.open_memory_channel[Result | Push](1)
        self._own[number] = sender
        await self.ask(Call(number, command))
        return await receiver.receive()

    async def _carry_up(self, end: trio.CancelScope) -> None:
        frames = FrameReader("host", max_bytes=MAX_FRAME_BYTES)
        while received := await self._host.receive_some(READ_BYTES):
            for payload in frames.feed(received):
                await self._lie.ask(_calls.decode(payload), self)
        end.cancel()

    async def _carry_down(self, end: trio.CancelScope) -> None:
        frames = FrameReader("enclave", max_bytes=MAX_FRAME_BYTES)
        while received := await self._enclave.receive_some(READ_BYTES):
            for payload in frames.feed(received):
                answer = _answers.decode(payload)
                if answer.id >= OWN_IDS_FROM:
                    self._own.pop(answer.id).send_nowait(answer.result)
                else:
                    await self._lie.answer(answer, self)
        end.cancel()
