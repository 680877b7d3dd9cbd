"""What a key's limits say to one request: it is admitted, with what it takes of them, or it is 429.

A request is counted when it is admitted. Its tokens are reserved (`gateway.reservation`) and corrected by its receipt;
so is what it may cost at list prices, out of the budget of its month.
"""

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, assert_never

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from pinaivu_host.clock import now_ms
from pinaivu_host.gateway.error_table import (
    BUDGET_EXCEEDED,
    BUDGET_HELD,
    RATE_LIMIT_EXCEEDED,
    REQUEST_OVER_LIMIT,
    Header,
)
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.limit_headers import headers_of
from pinaivu_host.gateway.order import Order, unknown_model
from pinaivu_host.gateway.reservation import Reservation
from pinaivu_host.store.accounts import Caller
from pinaivu_host.store.api_keys import NO_LIMITS
from pinaivu_host.store.database import Database
from pinaivu_host.store.key_charges import next_month_ms
from pinaivu_host.store.limits import Demand, Grant, LimitReachedError, LimitStore
from pinaivu_shared.configuration import Configuration, JobLimits, ModelTerms
from pinaivu_shared.ids import request_time_ms
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.wire.link import OpenJob

logger = logging.getLogger(__name__)


SETTLED_WITHIN_MS: Final = 10 * 60_000
_Ending = Callable[[Receipt | None, bool], None]


class Admission:
    """What one request took. `max_tokens` is for its job: what it asked for, or less; 0 is no limit."""

    def __init__(self, max_tokens: int, headers: tuple[Header, ...] = (), ending: _Ending | None = None) -> None:
        self.max_tokens, self.headers = max_tokens, headers
        self._ending = ending

    def limit(self, order: Order) -> Order:
        """The order with an answer as long as was taken for it."""
        if self.max_tokens == order.command.max_tokens:
            return order
        return dataclasses.replace(order, command=msgspec.structs.replace(order.command, max_tokens=self.max_tokens))

    def end(self, receipt: Receipt | None, *, may_follow: bool = False) -> None:
        """The job is over, whatever happened; a second time changes nothing. `may_follow`: a receipt may still come."""
        if self._ending is not None:
            self._ending(receipt, may_follow)
            self._ending = None


class RateLimits:
    """One for each gateway process; what they count, they count together (`store.limits`)."""

    def __init__(
        self, store: LimitStore, configuration: Configuration, *, lease_ms: int, now_ms: Callable[[], int] = now_ms
    ) -> None:
        """`lease_ms` is longer than any job."""
        self._store, self._configuration, self._lease_ms = store, configuration, lease_ms
        self._now_ms = now_ms
        self._settling: set[asyncio.Task[None]] = set()

    async def admit(self, caller: Caller, command: OpenJob) -> Admission:
        """Take what the request needs, all of it; ApiError (429) where a limit leaves less, and nothing is taken."""
        limits = caller.terms.limits
        if limits == NO_LIMITS:
            return Admission(command.max_tokens)
        terms = self._configuration.model(command.model)
        if terms is None:
            raise unknown_model(command.model)
        demand = self._demand(caller, command, terms)
        try:
            grant = await self._store.take(demand)
        except LimitReachedError as error:
            raise _refusal(error, self._now_ms()) from None
        return Admission(grant.max_tokens, headers_of(grant.levels), functools.partial(self._end, grant))

    async def admit_replay(self, caller: Caller) -> tuple[Header, ...]:
        """Count a request that is answered with what another one got; its headers. ApiError (429) as above."""
        if caller.terms.limits == NO_LIMITS:
            return ()
        try:
            return headers_of(await self._store.count(caller.key_id, caller.terms.limits))
        except LimitReachedError as error:
            raise _refusal(error, self._now_ms()) from None

    async def headers(self, caller: Caller) -> tuple[Header, ...]:
        """For an answer that takes nothing."""
        limits = caller.terms.limits
        if limits.requests_per_minute is None and limits.tokens_per_minute is None:
            return ()
        try:
            return headers_of(await self._store.levels(caller.key_id, limits))
        except SQLAlchemyError:  # the answer matters more
            logger.exception("what is left of a key's limits could not be looked up")
            return ()

    async def close(self) -> None:
        """Give back everything that has ended, then close the store."""
        await self.settled()
        self._store.close()

    async def settled(self) -> None:
        """Once everything that has ended is given back."""
        while self._settling:
            await asyncio.wait(self._settling)

    def _demand(self, caller: Caller, command: OpenJob, terms: ModelTerms) -> Demand:
        reservation = Reservation.of(command, terms, self._configuration, bounded=caller.terms.limits.has_budget)
        return Demand(
            lease_id=command.request_id,
            key_id=caller.key_id,
            limits=caller.terms.limits,
            tokens_of=reservation.tokens,
            cost_within=reservation.cost_within,
            max_tokens=reservation.max_tokens,
            asked_ms=request_time_ms(command.request_id),
            lease_ms=self._lease_ms,
        )

    def _end(self, grant: Grant, receipt: Receipt | None, may_follow: bool) -> None:  # noqa: FBT001 - of _Ending's type
        if not grant.counter and not grant.leased:
            return
        used = None if may_follow else 0
        if receipt is not None:
            used = receipt.prompt_tokens + receipt.completion_tokens
        settling = asyncio.create_task(_logged(self._store.settle(grant, used, keep_reserved=may_follow)))
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)


def _refusal(error: LimitReachedError, at_ms: int) -> ApiError:
    headers = headers_of(error.levels)
    match error.limit:
        case "requests" | "tokens":
            kind, headers = RATE_LIMIT_EXCEEDED, (_retry_after(error.wait_s), *headers)
        case "concurrent":
            kind, headers = RATE_LIMIT_EXCEEDED, (_retry_after(1), *headers)
        case "size":
            kind = REQUEST_OVER_LIMIT
        case "budget":
            left_ms = next_month_ms(at_ms) - at_ms
            kind, headers = BUDGET_EXCEEDED, (_retry_after(-(-left_ms // 1000)), *headers)
        case "held":
            kind = BUDGET_HELD
        case _:
            assert_never(error.limit)
    return ApiError(kind, _message(error), headers=headers)


def _retry_after(wait_s: int) -> Header:
    return ("retry-after", str(wait_s))


def _message(error: LimitReachedError) -> str:
    match error.limit:
        case "requests" | "tokens":
            limit = error.levels[error.limit].limit
            return f"this API key may use {limit} {error.limit} a minute, and too few are left; wait {error.wait_s} s"
        case "size":
            limit = error.levels["tokens"].limit
            return (
                f"this API key may use {limit} tokens a minute, and this request alone could use more: shorten it, "
                "or set a lower limit for its answer"
            )
        case "concurrent":
            return "this API key runs as many requests at once as it may; wait until one has ended"
        case "held":
            return "running requests of this API key hold what is left of its budget for the month; try again"
        case "budget":
            return "what is left of this API key's budget for the month pays for no answer to this request"


def make_rate_limits(database: Database, configuration: Configuration, *, queue_ms: int) -> RateLimits:
    """As every process of a host has them."""
    store = LimitStore(database, now_ms=now_ms)
    return RateLimits(store, configuration, lease_ms=_longest_job_ms(configuration.jobs, queue_ms=queue_ms))


def _longest_job_ms(limits: JobLimits, *, queue_ms: int) -> int:
    """How long a job may take, its waiting and its settlement among it: after that, nobody is there to end it."""
    return limits.attempts * limits.duration_ms + queue_ms + SETTLED_WITHIN_MS


async def _logged(settling: Coroutine[Any, Any, None]) -> None:
    try:
        await settling
    except SQLAlchemyError:  # the lease expires by itself
        logger.exception("what a request took of its key's limits could not be given back")
