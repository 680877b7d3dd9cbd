"""Running what was asked: a job of its own, or the one that an idempotency key has begun already.

Here in this process; `workers.job_server` runs the same in the host's process for a worker.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from pinaivu_host.gateway.delivery import MakeSink
from pinaivu_host.gateway.departure import Departure
from pinaivu_host.gateway.errors import shutting_down
from pinaivu_host.gateway.idempotency import Idempotency
from pinaivu_host.gateway.idempotency_key import KeyedRequest, Once
from pinaivu_host.gateway.job import Job
from pinaivu_host.gateway.market import Market
from pinaivu_host.gateway.order import Order
from pinaivu_host.store.idempotency import place_of


@dataclass(frozen=True, slots=True)
class Asked:
    """An order of the key with this digest; `once` where it has an idempotency key.

    `check_payer` raises ApiError unless it can be paid.
    """

    key_sha256: bytes
    order: Order
    once: Once | None
    check_payer: Callable[[], Awaitable[object]]


class Jobs(Protocol):
    """Where jobs run."""

    @property
    def draining(self) -> bool:
        """Whether no new ones are taken."""

    async def run(self, asked: Asked, make_sink: MakeSink, departure: Departure) -> None:
        """Answer one caller; ApiError before anything was sent, for what is not a job's own failure."""


class LocalJobs:
    """In this process."""

    def __init__(self, market: Market, idempotency: Idempotency) -> None:
        self._market, self._idempotency = market, idempotency

    @property
    def draining(self) -> bool:
        """Whether no new ones are taken."""
        return self._market.draining

    async def run(self, asked: Asked, make_sink: MakeSink, departure: Departure) -> None:
        """Until the job is settled, or the caller of a job with a key has gone."""
        if self.draining:  # since the request's head was there, or since a worker sent it
            raise shutting_down()
        if asked.once is None:
            admission = await self._market.limits.admit(asked.order.caller, asked.order.command)
            order = admission.limit(asked.order)
            await Job(self._market, order, make_sink(order, admission.headers), departure, admission).run()
            return
        place = place_of(asked.order.caller.account_id, asked.once.key)
        keyed = KeyedRequest(place, asked.once.body_sha256, asked.order, asked.check_payer)
        await self._idempotency.serve(keyed, make_sink, departure)
