"""One open connection to the enclave: calls go out with an id, answers come back in any order, pushes in between."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from pinaivu_host.errors import CoordinatorUnavailableError
from pinaivu_shared.errors import PeerError
from pinaivu_shared.framing import FrameReader, frame
from pinaivu_shared.wire.link import (
    MAX_FRAME_BYTES,
    Answer,
    Call,
    CheckpointSigned,
    HostCommand,
    LeafAppended,
    Push,
    Result,
)
from pinaivu_shared.wire.link_boot import OpenVault

READ_BYTES: Final = 256 * 1024
CALL_LIMIT_S: Final = 60.0
"""An enclave that owes an answer for longer is taken for dead: the connection is dropped."""
VAULT_LIMIT_S: Final = 180.0
"""The same for a vault: the enclave asks KMS again and again for about a minute, through retries and throttling."""

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)


class LinkConnection:
    """Multiplexes calls over one stream. `on_push` runs before an answer that mentions what was pushed."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        on_push: Callable[[Push], None],
        room: Callable[[], Awaitable[None]],
        on_close: Callable[[], None],
    ) -> None:
        self._reader, self._writer = reader, writer
        self._on_push, self._room, self._on_close = on_push, room, on_close
        self._waiting: dict[int, tuple[asyncio.Future[Result], float]] = {}
        self._last_id = 0
        self._closed = False

    async def ask(self, command: HostCommand) -> Result:
        """Send one command and wait for its answer; CoordinatorUnavailableError when the connection ends before it."""
        if self._closed:
            raise CoordinatorUnavailableError("the enclave link is down")
        loop = asyncio.get_running_loop()
        self._last_id = number = self._last_id + 1
        answer: asyncio.Future[Result] = loop.create_future()
        self._waiting[number] = (answer, loop.time() + _limit_s(command))
        self._writer.write(frame(_encoder.encode(Call(number, command)), max_bytes=MAX_FRAME_BYTES))
        try:
            await self._writer.drain()
        except OSError as error:
            self._waiting.pop(number, None)
            if answer.done():
                answer.exception()
            raise CoordinatorUnavailableError("the enclave link broke") from error
        return await answer

    async def run(self) -> None:
        """Read until the enclave closes or breaks the protocol (PeerError, OSError); then fail every call in flight."""
        frames = FrameReader("enclave", max_bytes=MAX_FRAME_BYTES)
        watch = asyncio.create_task(self._watch())
        try:
            while received := await self._reader.read(READ_BYTES):
                for payload in frames.feed(received):
                    self._take(payload)
                await self._room()
        finally:
            watch.cancel()
            self.close()

    def close(self) -> None:
        """Drop the connection; every call in flight fails at once."""
        if self._closed:
            return
        self._closed = True
        self._on_close()
        self._writer.transport.abort()
        waiting, self._waiting = self._waiting, {}
        for answer, _ in waiting.values():
            if not answer.done():
                answer.set_exception(CoordinatorUnavailableError("the enclave link broke"))

    def _take(self, payload: bytes) -> None:
        try:
            answer = _decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PeerError("enclave", f"sent what is no answer: {error}") from error
        result = answer.result
        if isinstance(result, LeafAppended | CheckpointSigned):
            self._on_push(result)
            return
        waiting = self._waiting.pop(answer.id, None)
        if waiting is None:
            raise PeerError("enclave", f"answered call {answer.id}, which was not asked")
        if not waiting[0].done():  # its caller may have been cancelled
            waiting[0].set_result(result)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            if any(loop.time() > deadline for _, deadline in self._waiting.values()):
                self.close()


def _limit_s(command: HostCommand) -> float:
    return VAULT_LIMIT_S if isinstance(command, OpenVault) else CALL_LIMIT_S
