"""Requests with an `Idempotency-Key`, and what they cost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from sqlalchemy import select
from tests.host.town import CREDIT, Town, request

from pinaivu_host.store.idempotency import place_of
from pinaivu_host.store.schema import RECEIPTS
from pinaivu_shared.wire.link import SettleJob


async def ask(town: Town, key: str = "k", *, api_key: str | None = None, **fields: Any) -> httpx.Response:
    headers = {"idempotency-key": key}
    return await town.client(api_key).post("/v1/chat/completions", json=request(**fields), headers=headers)


@asynccontextmanager
async def asking(town: Town, **fields: Any) -> AsyncIterator[httpx.Response]:
    """A stream whose end is not waited for; leaving the block is leaving the answer."""
    body = request(stream=True, **fields)
    async with town.client().stream("POST", "/v1/chat/completions", json=body, headers={"idempotency-key": "k"}) as it:
        yield it


async def first_piece(lines: AsyncIterator[str]) -> None:
    """Read as far as the first piece of text."""
    async for line in lines:
        if '"content":"' in line and '"content":""' not in line:
            return


async def listeners(town: Town, count: int) -> None:
    """Wait until exactly so many callers hear the job that runs under the key."""
    recording = town.host.idempotency._running[place_of(town.account_id, "k")]
    await wait_until(lambda: len(recording._listeners) == count)


async def wait_until(true: Callable[[], bool]) -> None:
    """Let everything else go on until it is so."""
    while not true():  # noqa: ASYNC110 - it is the state of the host that is waited for
        await asyncio.sleep(0)


async def spent(town: Town) -> int:
    account = await town.host.accounts.account(town.account_id)
    assert account is not None
    return CREDIT - account.credit


async def receipt_of(town: Town, answer: httpx.Response) -> dict[str, Any]:
    found = await town.client().get(f"/v1/receipts/{answer.headers['x-request-id']}")
    assert found.status_code == 200, found.text
    receipt: dict[str, Any] = found.json()
    return receipt


def settled(town: Town) -> list[tuple[str, str]]:
    return [(one.outcome, one.reason) for one in town.enclave.all_of(SettleJob)]


async def receipts(town: Town) -> list[tuple[str, int]]:
    """Id and charge of every receipt of the account, in the order of the log."""
    await town.host.journal.flush()
    columns = RECEIPTS.c
    query = select(columns.request_id, columns.charge_micro_usdc).where(columns.account_id == town.account_id)
    with town.host._database.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query.order_by(columns.leaf_index))]
