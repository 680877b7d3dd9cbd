"""How the job ended that a key began earlier. Where there is no receipt that costs, there never will be."""

import asyncio

import msgspec

from pinaivu_host.errors import CommandRefusedError, CoordinatorUnavailableError
from pinaivu_host.gateway.market import Market
from pinaivu_host.gateway.settlement import DURABLE_LIMIT_S, NOTHING
from pinaivu_host.store.idempotency import KeyUse
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.wire.link import JobSettled, SettleJob

NO_OPEN_JOB = frozenset({"unknown_subject", "already_settled"})
"""What the enclave refuses a settlement with when it has been settled, or can no more be."""


async def completed_receipt(market: Market, use: KeyUse) -> Receipt | None:
    """The receipt of a former job that completed; None if it did not and never will.

    The job must not run here any more. CoordinatorUnavailableError as long as that is not known.
    """
    receipt = await _stored(market, use)
    if receipt is None:
        receipt = await _closed(market, use)
    market.journal.records.pop(use.request_id, None)
    return receipt if receipt is not None and receipt.outcome == "completed" else None


async def _closed(market: Market, use: KeyUse) -> Receipt | None:
    """Have the enclave settle as failed what may still be open; the receipt that this brings to light."""
    market.journal.records.setdefault(use.request_id, use.record())
    command = SettleJob(use.request_id, "failed", "abandoned", NOTHING, None)
    try:
        settled = await market.link.call(command, JobSettled)
        market.credit.freed(use.place.account_id)
        async with asyncio.timeout(DURABLE_LIMIT_S):
            await market.journal.durable(settled.index)
    except TimeoutError:
        raise CoordinatorUnavailableError("the receipt of the former job could not be stored in time") from None
    except CommandRefusedError as error:
        if error.refusal not in NO_OPEN_JOB:
            raise CoordinatorUnavailableError(f"the former job cannot be closed: {error.refusal}") from error
        await market.journal.flush()  # a leaf is pushed before the answer that presupposes it
    return await _stored(market, use)


async def _stored(market: Market, use: KeyUse) -> Receipt | None:
    found = await market.evidence.receipt_of_job(use.request_id)
    return None if found is None else msgspec.json.decode(found[1], type=Receipt)
