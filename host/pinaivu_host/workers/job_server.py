"""The host's side: runs jobs for workers, over a Unix socket that only this user can open."""

import asyncio
import functools
import logging
from pathlib import Path
from typing import Any

import msgspec

from pinaivu_host.gateway.app import refusal_of
from pinaivu_host.gateway.ask import AnswerShape, Ask
from pinaivu_host.gateway.authentication import asker_of, payer_of
from pinaivu_host.gateway.chat_answer import ChatShape
from pinaivu_host.gateway.departure import Departure
from pinaivu_host.gateway.embeddings import EmbeddingsShape
from pinaivu_host.gateway.envelope import Envelope
from pinaivu_host.gateway.idempotency_key import Once
from pinaivu_host.gateway.jobs import Asked, Jobs
from pinaivu_host.gateway.order import Order
from pinaivu_host.metrics import Metrics
from pinaivu_host.store.accounts import Accounts, Caller
from pinaivu_host.workers.sink import WorkerLine, WorkerSink
from pinaivu_host.workers.wire import Answered, Fail, Left, Over, Submit, Taken, hear_worker
from pinaivu_shared.errors import PeerError
from pinaivu_shared.terms import Capability

logger = logging.getLogger(__name__)


class JobServer:
    """Start it before the workers."""

    def __init__(self, path: Path, jobs: Jobs, accounts: Accounts, metrics: Metrics) -> None:
        self._path, self._jobs, self._accounts, self._metrics = path, jobs, accounts, metrics
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def stop(self) -> None:
        """Take no more connections, and close those that are open."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            match await hear_worker(reader):
                case Submit() as submit:
                    await self._run(submit, reader, writer)
                case Answered() as answered:
                    await self._count(answered, reader)
                case _:
                    pass
        except (PeerError, ConnectionError):
            logger.exception("a worker broke off")
        finally:
            writer.close()

    async def _count(self, answered: Answered, reader: asyncio.StreamReader) -> None:
        """What a worker answered by itself and for others, on its own connection, until it ends."""
        self._metrics.answered(answered.route, answered.status, answered.duration_s)
        while (message := await hear_worker(reader)) is not None:
            if isinstance(message, Answered):
                self._metrics.answered(message.route, message.status, message.duration_s)

    async def _run(self, submit: Submit, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = WorkerLine(writer, Departure())
        hearing = asyncio.create_task(_hear(reader, line))
        try:
            await self._answer(submit, line)
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker's caller is told, and it is logged there
            line.send(Fail.of(refusal_of(error, request_id=submit.command.request_id, route="worker")))
        finally:
            hearing.cancel()
            line.send(Over())

    async def _answer(self, submit: Submit, line: WorkerLine) -> None:
        check_payer = functools.partial(payer_of, submit.key_sha256, self._accounts)
        once = None if submit.once is None else Once(*submit.once)
        caller = await (check_payer() if once is None else asker_of(submit.key_sha256, self._accounts))
        asked = Asked(submit.key_sha256, _order(submit, caller), once, check_payer)
        await self._jobs.run(asked, functools.partial(WorkerSink, line), line.departure)


async def _hear(reader: asyncio.StreamReader, line: WorkerLine) -> None:
    """What the worker says while its job runs. A worker that is gone, or makes no sense, has no caller any more."""
    try:
        while (message := await hear_worker(reader)) is not None:
            match message:
                case Taken():
                    line.taken()
                case Left(reason):
                    line.leave(reason)
                case _:
                    break
    except PeerError:
        logger.exception("a worker makes no sense")
    line.leave("client_disconnected")


def _order(submit: Submit, caller: Caller) -> Order:
    """As far as it matters for running the job: how its answer is shown is the worker's business, who pays is not."""
    command = msgspec.structs.replace(submit.command, account=caller.account_id)
    forwarded = msgspec.json.decode(submit.forwarded)
    ask = Ask(
        model=command.model,
        forwarded=forwarded,
        needs=command.needs,
        shape=_check_of(forwarded, command.needs),
        max_tokens=command.max_tokens,
        choices=submit.choices,
        stream=submit.stream,
        keeps_logprobs=submit.keeps_logprobs,
        names=submit.names,
    )
    envelope = Envelope(command.request_id, submit.created_s, command.model, service_tier=False)
    return Order(command, submit.forwarded, submit.salt, caller, ask, envelope)


def _check_of(forwarded: dict[str, Any], needs: tuple[Capability, ...]) -> AnswerShape:
    """The shape that says whether an answer can be shown; it shows none here."""
    if "embeddings" in needs:
        return EmbeddingsShape(len(forwarded["input"]), as_base64=True)
    return ChatShape()
