"""The enclave's shell: accepts the host's connections, cuts frames, lends the core a clock and entropy.

One host at a time drives the enclave: whoever introduced itself last. Answers and pushes leave in the order in which
the core made them; a host that does not read stops its own commands from being read.
"""

import logging
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

import msgspec
import trio

from pinaivu_enclave.boot import Boot, EnclavePlatform, ServingEpoch
from pinaivu_enclave.clock import CHECK_SECONDS, Clock
from pinaivu_enclave.core.commands import Command, Effect, IllegalCommandError, IssueChallenge, Tick
from pinaivu_enclave.core.sessions import CHALLENGE_ENTROPY_BYTES
from pinaivu_shared.errors import PeerError, PinaivuError
from pinaivu_shared.framing import FrameReader, frame
from pinaivu_shared.wire import link, link_boot

MAX_CONNECTIONS: Final = 8
MAX_ATTESTATIONS: Final = 32
OUTBOX_MESSAGES: Final = 1024
DETAIL_CHARACTERS_MAX: Final = 2000
"""A refusal may quote what it refuses, which may be as long as a frame."""
READ_BYTES: Final = 65_536
TICK_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)
_decoder = msgspec.msgpack.Decoder(link.Call)
_encoder = msgspec.msgpack.Encoder()


class Outbox:
    """The messages on their way to one connection, in order and bounded."""

    def __init__(self) -> None:
        self._sender, self._receiver = trio.open_memory_channel[link.Answer](OUTBOX_MESSAGES)

    async def put(self, answer: link.Answer) -> None:
        """Queue one message; waits while the host does not read. A closed connection loses it, as any would."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            try:
                self._sender.send_nowait(answer)  # `send` costs a turn of the scheduler, and of the wire, for each
            except trio.WouldBlock:
                await self._sender.send(answer)

    def close(self) -> None:
        """End the connection once what is queued was sent."""
        self._sender.close()

    async def drain_into(self, stream: trio.abc.Stream) -> None:
        """Send until closed, several frames at a time where several wait."""
        async with self._receiver:
            async for first in self._receiver:
                batch = bytearray(_framed(first))
                while len(batch) < READ_BYTES:
                    try:
                        batch += _framed(self._receiver.receive_nowait())
                    except (trio.WouldBlock, trio.EndOfChannel):
                        break
                await stream.send_all(bytes(batch))


class EnclaveServer:
    """One enclave from boot to end."""

    def __init__(self, platform: EnclavePlatform, clock: Clock) -> None:
        self._platform, self._clock = platform, clock
        self._boot = Boot(platform)
        self._epoch: ServingEpoch | None = None
        self._active: Outbox | None = None
        self._instance = ""
        self._connections = 0
        self._attesting = 0
        self._module = trio.CapacityLimiter(1)
        self._in_order = trio.Lock()  # leaves must leave in the order of their indices, whoever caused them

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Serve until cancelled, or until the clock is found wrong: ClockTamperedError ends the enclave."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            nursery.start_soon(self._watch_clock)
            await trio.serve_listeners(self._connection, listeners, handler_nursery=nursery)

    async def _connection(self, stream: trio.SocketStream) -> None:
        if self._connections >= MAX_CONNECTIONS:
            logger.warning("connection refused", extra={"kv": {"open": self._connections}})
            await stream.aclose()
            return
        self._connections += 1
        outbox = Outbox()
        try:
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(self._read, stream, outbox, nursery.cancel_scope)
                await outbox.drain_into(stream)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            logger.info("host gone")
        except* PeerError as errors:
            logger.warning("host broke the protocol", extra={"kv": {"detail": _said(errors)}})
        finally:
            self._connections -= 1
            if self._active is outbox:
                self._active = None

    async def _read(self, stream: trio.SocketStream, outbox: Outbox, connection: trio.CancelScope) -> None:
        async with trio.open_nursery() as nursery, aclosing(_calls(stream)) as calls:
            async for call in calls:
                if isinstance(call.command, link.Attest) and self._epoch is not None and outbox is self._active:
                    await self._begin_attestation(nursery, call, outbox)
                else:
                    await self._answer(call, outbox)
            connection.cancel()

    async def _answer(self, call: link.Call, outbox: Outbox) -> None:
        self._release_from_silent_host(call.command, outbox)
        async with self._in_order:
            try:
                effects = await self._carry_out(call.command, outbox)
            except PinaivuError as error:
                effects = [link.Refused(error.code, str(error)[:DETAIL_CHARACTERS_MAX])]
            for effect in effects:
                await self._dispatch(effect, outbox, call.id)

    def _release_from_silent_host(self, command: link.HostCommand, outbox: Outbox) -> None:
        """A host that reads nothing may hold the order of messages; its successor must not wait for it."""
        takes_over = isinstance(command, link_boot.Introduce) and command.protocol == link.LINK_PROTOCOL
        if takes_over and self._active is not None and self._active is not outbox:
            self._active.close()

    async def _begin_attestation(self, nursery: trio.Nursery, call: link.Call, outbox: Outbox) -> None:
        """Anybody may ask for a document, and the module is slow: it must not hold up the market."""
        if self._attesting >= MAX_ATTESTATIONS:
            await outbox.put(link.Answer(call.id, link.Refused("overloaded", "too many attestations at once")))
            return
        self._attesting += 1
        nursery.start_soon(self._attest, call, outbox)

    async def _attest(self, call: link.Call, outbox: Outbox) -> None:
        assert self._epoch is not None
        assert isinstance(call.command, link.Attest)
        try:
            document = await trio.to_thread.run_sync(
                self._epoch.attest, self._platform.nsm, call.command.nonce, limiter=self._module
            )
        finally:
            self._attesting -= 1
        await outbox.put(link.Answer(call.id, document))

    async def _dispatch(self, effect: Effect, outbox: Outbox, call_id: int) -> None:
        if isinstance(effect, link.LeafAppended | link.CheckpointSigned):
            if self._active is not None:
                await self._active.put(link.Answer(0, effect))
        else:
            await outbox.put(link.Answer(call_id, effect))

    async def _carry_out(self, command: link.HostCommand, outbox: Outbox) -> list[Effect]:
        if isinstance(command, link_boot.Introduce):
            return self._introduce(command, outbox)
        if outbox is not self._active:
            raise IllegalCommandError("Introduce comes first, and a newer host may have taken over")
        if self._epoch is None:
            return await self._carry_out_boot(command)
        if isinstance(command, link_boot.Configure):
            return self._configure_again(command)
        if isinstance(command, link_boot.OpenVault | link_boot.Resume | link_boot.FinishResume):
            raise IllegalCommandError(f"{type(command).__name__} while serving")
        return self._epoch.coordinator.apply(_completed(command), self._clock.now_ms())

    def _introduce(self, command: link_boot.Introduce, outbox: Outbox) -> list[Effect]:
        if command.protocol != link.LINK_PROTOCOL:
            raise IllegalCommandError(f"this enclave speaks protocol {link.LINK_PROTOCOL}")
        if self._active is not None and self._active is not outbox:
            self._active.close()
        self._active, self._instance = outbox, command.instance
        if self._epoch is None:
            return [link_boot.Introduction(self._boot.phase, 0, 0)]
        return self._epoch.coordinator.apply(command, self._clock.now_ms())

    async def _carry_out_boot(self, command: link.HostCommand) -> list[Effect]:
        match command:
            case link_boot.Configure():
                await trio.to_thread.run_sync(self._boot.configure, command.configuration, limiter=self._module)
            case link_boot.OpenVault():
                return [link_boot.VaultOpened(await self._boot.open_vault(command.sealed))]
            case link_boot.Resume():
                self._boot.resume(command.leaves)
            case link_boot.FinishResume():
                self._epoch, effects = self._boot.finish(command.checkpoint, self._instance)
                logger.info("serving")
                return [*effects, link.Done()]
            case _:
                raise IllegalCommandError(f"{type(command).__name__} while {self._boot.phase}")
        return [link.Done()]

    def _configure_again(self, command: link_boot.Configure) -> list[Effect]:
        assert self._epoch is not None
        if command.configuration != self._epoch.configuration:
            raise IllegalCommandError("another configuration is measured already: start a new enclave")
        return [link.Done()]

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK_SECONDS)
            async with self._in_order:
                await self._expire()

    async def _watch_clock(self) -> None:
        while True:
            await trio.sleep(CHECK_SECONDS)
            deviation_ms = await trio.to_thread.run_sync(self._clock.check, limiter=self._module)
            if deviation_ms:
                logger.info("clock corrected", extra={"kv": {"deviation_ms": deviation_ms}})

    async def _expire(self) -> None:
        if self._epoch is not None:
            for effect in self._epoch.coordinator.apply(Tick(), self._clock.now_ms()):
                if self._active is not None:
                    await self._active.put(link.Answer(0, effect))


def _said(error: BaseException) -> str:
    """The text of the first error in a group of groups, one for each nursery that it came through."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


def _completed(command: link.HostCommand) -> Command:
    """The command as the core takes it: with entropy where it needs some."""
    if isinstance(command, link.RequestChallenge):
        return IssueChallenge(command.public_key, secrets.token_bytes(CHALLENGE_ENTROPY_BYTES))
    assert not isinstance(
        command, link_boot.Configure | link_boot.OpenVault | link_boot.Resume | link_boot.FinishResume | link.Attest
    )
    return command


async def _calls(stream: trio.abc.Stream) -> AsyncGenerator[link.Call, None]:
    frames = FrameReader("host", max_bytes=link.MAX_FRAME_BYTES)
    while received := await stream.receive_some(READ_BYTES):
        for payload in frames.feed(received):
            try:
                yield _decoder.decode(payload)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise PeerError("host", f"not a call: {error}") from error


def _framed(answer: link.Answer) -> bytes:
    return frame(_encoder.encode(answer), max_bytes=link.MAX_FRAME_BYTES)
