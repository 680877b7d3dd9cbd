"""Settling a job: the enclave writes the receipt, the journal makes it durable, only then is anything final said."""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Final

import msgspec

from pinaivu_host.errors import CommandRefusedError, CoordinatorUnavailableError
from pinaivu_host.gateway.market import RECORD_KEPT_S, Market
from pinaivu_host.gateway.order import Order
from pinaivu_host.gateway.rate_limits import Admission
from pinaivu_host.late_proofs import report_proof
from pinaivu_host.store.leaf_rows import JobRecord
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.signed import Signed
from pinaivu_shared.wire.link import Delivery, JobSettled, SettleJob

logger = logging.getLogger(__name__)

DURABLE_LIMIT_S: Final = 30.0
RECONNECT_LIMIT_S: Final = 10.0
NOTHING: Final = Delivery(0, "")
_receipts: Final[msgspec.json.Decoder[Receipt]] = msgspec.json.Decoder(Receipt)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended, as the gateway saw it."""

    outcome: str
    reason: str = ""
    delivery: Delivery = NOTHING
    proof: Signed | None = None


class Settlement:
    """One job's way into the log. Made before its auction, so that the receipt finds its owner whatever happens."""

    def __init__(self, market: Market, order: Order, admission: Admission) -> None:
        self._market, self._order, self._admission = market, order, admission
        self._record = JobRecord(order.salt, key_id=order.caller.key_id)
        self._request_id = order.command.request_id
        market.journal.records[self._request_id] = self._record
        self._receipt: Receipt | None = None

    def awarded(self, transcript: bytes) -> None:
        """The job got an award with this transcript."""
        self._record.transcripts.append(transcript)

    async def settle(self, ending: Ending) -> Receipt:
        """Settle and wait for the receipt to be durable; CoordinatorUnavailableError if that cannot be known."""
        self._record.proof = ending.proof
        command = SettleJob(
            self._request_id,
            ending.outcome,  # type: ignore[arg-type]  # one of three literals
            ending.reason,
            ending.delivery,
            ending.proof,
        )
        try:
            settled = await self._market.link.call(command, JobSettled)
        except CoordinatorUnavailableError:
            return await self._settle_after_reconnect(command)
        except CommandRefusedError as error:
            return await self._receipt_of_another(error)
        return await self.accept(settled)

    async def accept(self, settled: JobSettled) -> Receipt:
        """Take a receipt that the enclave wrote: its slot is free, its charge counts, its leaf becomes durable."""
        self._market.settled(self._order.command)
        self._order.caller.credit -= settled.charge
        return await self._take(settled.index, settled.receipt)

    def close(self) -> None:
        """The job has ended, for its node and its key as well. A receipt that is still to come finds its record."""
        self._market.nodes.release(self._request_id)
        records = self._market.journal.records
        may_follow = self._receipt is None and bool(self._record.transcripts)
        self._admission.end(self._receipt, may_follow=may_follow)
        if not may_follow:
            records.pop(self._request_id, None)
        else:
            self._market.metrics.unsettled()
            asyncio.get_running_loop().call_later(RECORD_KEPT_S, records.pop, self._request_id, None)

    async def _take(self, index: int, raw: bytes) -> Receipt:
        """A second proof that came before the settlement could not be told of before it."""
        second_proof = self._market.nodes.release(self._request_id)
        if second_proof is not None:
            await report_proof(self._market.link, self._market.evidence, self._request_id, second_proof)
        return await self._make_durable(index, raw)

    async def _make_durable(self, index: int, raw: bytes) -> Receipt:
        try:
            async with asyncio.timeout(DURABLE_LIMIT_S):
                await self._market.journal.durable(index)
        except TimeoutError:
            raise CoordinatorUnavailableError("the receipt could not be stored in time") from None
        self._receipt = receipt = _receipts.decode(raw)
        self._market.metrics.settled(receipt)
        return receipt

    async def _settle_after_reconnect(self, command: SettleJob) -> Receipt:
        """The link broke: whether the enclave settled is unknown until it is back."""
        try:
            async with asyncio.timeout(RECONNECT_LIMIT_S):
                settled = await self._ask_until_answered(command)
        except TimeoutError:
            raise CoordinatorUnavailableError("the coordinator did not come back in time") from None
        except CommandRefusedError as error:
            return await self._receipt_of_another(error)
        return await self.accept(settled)

    async def _ask_until_answered(self, command: SettleJob) -> JobSettled:
        while True:
            await self._market.link.wait_ready()
            with contextlib.suppress(CoordinatorUnavailableError):
                return await self._market.link.call(command, JobSettled)

    async def _receipt_of_another(self, refused: CommandRefusedError) -> Receipt:
        """The enclave has no such open job: it was settled before, or was lost with an enclave that is gone.

        What was settled (`already_settled`) was pushed before the refusal, so the store has it or soon will.
        """
        await self._market.journal.flush()
        found = await self._market.evidence.receipt_of_job(self._request_id)
        if found is None:
            logger.warning("job lost", extra={"kv": {"request_id": self._request_id, "refusal": refused.refusal}})
            raise CoordinatorUnavailableError("the coordinator has lost this job") from refused
        self._market.settled(self._order.command)
        return await self._take(*found)
