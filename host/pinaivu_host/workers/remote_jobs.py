"""The worker's side: has the host run a job, and shows its answer to the caller here."""

import asyncio
import contextlib
import dataclasses
from collections import deque
from collections.abc import Coroutine
from pathlib import Path

import msgspec

from pinaivu_host.gateway.delivery import NEVER, CallerStalledError, MakeSink, Sink
from pinaivu_host.gateway.departure import Departure
from pinaivu_host.gateway.errors import coordinator_unavailable
from pinaivu_host.gateway.jobs import Asked
from pinaivu_host.gateway.order import Order
from pinaivu_host.workers.wire import (
    FROM_HOST,
    Begin,
    Complete,
    Fail,
    FromHost,
    Left,
    Over,
    Pieces,
    Submit,
    Taken,
    WorkerMessage,
    encode,
    read_frame,
)
from pinaivu_shared.receipt import Receipt

_receipts = msgspec.json.Decoder(Receipt)


class RemoteJobs:
    """Jobs in the host's process. Each has a connection of its own, so one caller never waits for another's frames."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._running = 0
        self._none = asyncio.Event()
        self._none.set()
        self.draining = False

    async def run(self, asked: Asked, make_sink: MakeSink, departure: Departure) -> None:
        """Until the host has said its last word; ApiError before anything was sent."""
        self._running += 1
        self._none.clear()
        try:
            await self._run(asked, make_sink, departure)
        finally:
            self._running -= 1
            if not self._running:
                self._none.set()

    async def ended(self) -> None:
        """Once none runs."""
        await self._none.wait()

    async def _run(self, asked: Asked, make_sink: MakeSink, departure: Departure) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(self._path)
        except OSError:
            raise coordinator_unavailable() from None
        writer.write(encode(_submit(asked)))
        call = _Call(asked.order, reader, writer, departure)
        listening = asyncio.create_task(call.listen())
        try:
            await call.play(make_sink)
        finally:
            listening.cancel()
            writer.close()


class _Call:
    """One job as the worker hears of it. `news` is set when there is something to do."""

    def __init__(
        self, order: Order, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, departure: Departure
    ) -> None:
        self._order, self._reader, self._writer, self._departure = order, reader, writer, departure
        self._heard: deque[FromHost | None] = deque()
        self._news = asyncio.Event()
        self._sink: Sink | None = None
        self._answer = order.ask.new_answer()
        self._left = False

    async def listen(self) -> None:
        """Take the host's words as they come. Each is acknowledged before the next, so there are never many."""
        while (raw := await read_frame(self._reader)) is not None:
            self._heard.append(FROM_HOST.decode(raw))
            self._news.set()
        self._heard.append(None)
        self._news.set()

    async def play(self, make_sink: MakeSink) -> None:
        """Do what the host says until it is over. A caller who leaves is told to the host, which ends the job."""
        self._departure.attend(self._news.set)
        over = False
        while not over:
            self._news.clear()
            self._tell_departure()
            if self._heard:
                over = await self._take(self._heard.popleft(), make_sink)
            elif await self._silent() and self._sink is not None:
                await self._show(self._sink.keep_alive())

    def _tell_departure(self) -> None:
        if self._departure.reason and not self._left:
            self._left = True
            self._send(Left(self._departure.reason))

    async def _take(self, message: FromHost | None, make_sink: MakeSink) -> bool:
        """Whether that was the last word."""
        match message:
            case Begin():
                self._sink = make_sink(_whose(self._order, message), message.headers)
            case Pieces(deltas) if self._sink is not None:
                await self._hand_on(self._sink.relay(list(deltas), self._answer))
            case Complete(receipt) if self._sink is not None:
                await self._hand_on(self._sink.complete(self._answer, _receipts.decode(receipt)))
            case Fail() if self._sink is not None:
                await self._hand_on(self._sink.fail(message.error()))
            case Fail():
                raise message.error()
            case Over():
                return True
            case None:
                await self._host_gone()
                return True
            case _:
                raise AssertionError(f"{type(message).__name__} before Begin")
        return False

    async def _hand_on(self, showing: Coroutine[None, None, None]) -> None:
        if await self._show(showing):
            self._send(Taken())

    async def _show(self, showing: Coroutine[None, None, None]) -> bool:
        """Whether the caller takes it. To one who has left nothing is shown."""
        if self._departure.caller_gone:
            showing.close()
            return False
        try:
            await showing
        except CallerStalledError:
            self._departure.leave("client_stalled")
            return False
        return not self._departure.caller_gone

    async def _host_gone(self) -> None:
        if self._sink is None:
            raise coordinator_unavailable()
        await self._show(self._sink.fail(coordinator_unavailable()))

    async def _silent(self) -> bool:
        """Wait for something new; whether it was time to show life before."""
        until = NEVER if self._sink is None or self._departure.caller_gone else self._sink.silent_until
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until if until < NEVER else None):
                await self._news.wait()
            return False
        return True

    def _send(self, message: WorkerMessage) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode(message))


def _submit(asked: Asked) -> Submit:
    order, once = asked.order, asked.once
    return Submit(
        asked.key_sha256,
        order.command,
        order.forwarded,
        order.salt,
        order.envelope.created_s,
        order.ask.stream,
        order.ask.choices,
        order.ask.keeps_logprobs,
        order.ask.names,
        None if once is None else (once.key, once.body_sha256),
    )


def _whose(order: Order, begun: Begin) -> Order:
    """The order whose answer follows: its own, or the one that was answered under its idempotency key."""
    return dataclasses.replace(
        order,
        command=msgspec.structs.replace(order.command, request_id=begun.request_id),
        salt=begun.salt,
        envelope=dataclasses.replace(order.envelope, request_id=begun.request_id, created_s=begun.created_s),
    )
