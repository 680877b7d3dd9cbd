"""A worker that is cut off, or makes no sense, in any phase of a job: the job ends there, once, and holds nothing."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.host.fake_node import endless
from tests.host.town import Town

from pinaivu_host.gateway.order import new_request_id
from pinaivu_host.gateway.parameter_names import ParameterNames
from pinaivu_host.workers.job_server import JobServer
from pinaivu_host.workers.wire import (
    FROM_HOST,
    Begin,
    Complete,
    Fail,
    FromHost,
    Pieces,
    Submit,
    Taken,
    encode,
    read_frame,
)
from pinaivu_shared.commitments import canonical_bytes, commitment
from pinaivu_shared.framing import frame
from pinaivu_shared.wire.link import OpenJob, SettleJob

pytestmark = pytest.mark.anyio
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STRANGE = {
    "garbled": b"\x00\x00\x00\x01\xc1",
    "no text": frame(b"\x82\xa4type\xa4Left\xa6reason\xa1\xff", max_bytes=100),
    "too long": b"\xff\xff\xff\xff",
    "cut": b"\x00\x00\x00\x09abc",
    "gone": b"",
}
"""What comes in place of a worker's word, before its connection ends."""


class Line:
    """A worker's connection for one job."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def hear(self) -> FromHost:
        raw = await read_frame(self._reader)
        assert raw is not None
        return FROM_HOST.decode(raw)

    def say(self, message: Any) -> None:
        self._writer.write(encode(message))

    async def break_off(self, last: bytes) -> None:
        self._writer.write(last)
        await self._writer.drain()
        self._writer.close()


class Desk:
    """The host's side of a town, and workers' connections to it."""

    def __init__(self, town: Town, path: Path) -> None:
        self.town, self._path = town, path

    async def submit(self, **changes: Any) -> Line:
        salt, forwarded = secrets.token_bytes(32), canonical_bytes(BODY)
        command = OpenJob(
            request_id=new_request_id(),
            account=self.town.account_id,
            model="m",
            request_commitment=commitment("request", forwarded, salt),
            forwarded_commitment=commitment("forwarded", forwarded, salt),
            request_bytes=len(forwarded),
            max_tokens=0,
            needs=("chat",),
            may_be_empty=False,
        )
        submit = Submit(
            key_sha256=hashlib.sha256(self.town.key.encode()).digest(),
            command=msgspec.structs.replace(command, **changes),
            forwarded=forwarded,
            salt=salt,
            created_s=1,
            stream=True,
            choices=1,
            keeps_logprobs=False,
            names=ParameterNames(),
            once=None,
        )
        line = Line(*await asyncio.open_unix_connection(self._path))
        line.say(submit)
        return line

    async def settled(self) -> list[SettleJob]:
        await self.town.enclave.heard(SettleJob)
        await self.town.host.market.jobs.ended(600)
        settled: list[SettleJob] = self.town.enclave.all_of(SettleJob)
        return settled


@pytest.fixture
async def desk(town: Town, tmp_path: Path) -> AsyncIterator[Desk]:
    host = town.host
    server = JobServer(tmp_path / "jobs", host.jobs, host.accounts, host.market.metrics)
    await server.start()
    yield Desk(town, tmp_path / "jobs")
    await server.stop()


@pytest.mark.parametrize("last", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("pieces", [0, 1, 3])
async def test_a_job_ends_with_its_workers_connection(desk: Desk, pieces: int, last: bytes) -> None:
    await desk.town.node(endless)
    line = await desk.submit()
    assert isinstance(await line.hear(), Begin)
    for _ in range(pieces):
        assert isinstance(await line.hear(), Pieces)
        line.say(Taken())
    await line.break_off(last)
    (settled,) = await desk.settled()
    assert (settled.outcome, settled.reason) == ("cancelled", "client_disconnected")
    assert desk.town.enclave.open_jobs == 0


@pytest.mark.parametrize("last", STRANGE.values(), ids=STRANGE)
async def test_an_answer_that_was_whole_before_the_connection_ended_is_settled_once(desk: Desk, last: bytes) -> None:
    await desk.town.node()
    line = await desk.submit()
    while not isinstance(message := await line.hear(), Complete):
        if isinstance(message, Pieces):
            line.say(Taken())
    await line.break_off(last)
    (settled,) = await desk.settled()
    assert settled.outcome == "completed"
    assert desk.town.enclave.open_jobs == 0


async def test_a_job_is_paid_by_the_account_of_its_key_whatever_a_worker_says(desk: Desk) -> None:
    await desk.town.node()
    other, _ = await desk.town.account("other", credit=1_000_000)
    line = await desk.submit(account=other)
    while not isinstance(message := await line.hear(), Complete | Fail):
        if isinstance(message, Pieces):
            line.say(Taken())
    await line.break_off(encode(Taken()))
    assert isinstance(message, Complete)
    (opened,) = desk.town.enclave.all_of(OpenJob)
    assert opened.account == desk.town.account_id
