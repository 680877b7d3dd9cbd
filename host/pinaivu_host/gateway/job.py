"""One request from auction to receipt: awards until one node answers, then exactly one settlement.

The flow is never cancelled. A caller who leaves is a value that it looks at (`Departure`), so whatever was begun at
the enclave or at a node is also ended there.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import NoReturn, TypeVar

import msgspec

from pinaivu_host.errors import CommandRefusedError, CoordinatorUnavailableError
from pinaivu_host.gateway.answer import LARGE_ANSWER_BYTES, Answer
from pinaivu_host.gateway.attempt import (
    AnswerBrokenError,
    Attempt,
    AttemptFailedError,
    DeclinedError,
)
from pinaivu_host.gateway.auction import hold_auction
from pinaivu_host.gateway.delivery import CallerStalledError, Sink
from pinaivu_host.gateway.departure import CallerLeftError, Departure
from pinaivu_host.gateway.error_table import (
    COORDINATOR_UNAVAILABLE,
    NODE_FAILED,
    TIMEOUT,
    UNSUPPORTED_PARAMETER,
)
from pinaivu_host.gateway.errors import ApiError, shutting_down
from pinaivu_host.gateway.failures import message_of
from pinaivu_host.gateway.market import Market
from pinaivu_host.gateway.order import Order, too_long
from pinaivu_host.gateway.rate_limits import Admission
from pinaivu_host.gateway.settlement import Ending, Settlement
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.wire.link import Awarded, Delivery, JobSettled, ReportFailure
from pinaivu_shared.wire.node import Decline

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Job:
    """Runs once. Every error reaches the caller through the sink."""

    def __init__(self, market: Market, order: Order, sink: Sink, departure: Departure, admission: Admission) -> None:
        self._market, self._order, self._sink, self._departure = market, order, sink, departure
        self._settlement = Settlement(market, order, admission)
        self._began = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Serve the caller, or say why not. When the caller has left, return once the job is settled."""
        self._market.jobs.begin(self._departure)
        try:
            await self._serve()
        except CallerStalledError:
            self._departure.leave("client_stalled")
        finally:
            self._market.jobs.end(self._departure)
            self._settlement.close()

    async def _serve(self) -> None:
        try:
            awarded = await hold_auction(self._market, self._order, self._departure)
            answer, receipt = await self._answer(awarded)
        except ApiError as error:
            await self._tell(error)
        except CoordinatorUnavailableError as error:
            await self._tell(ApiError(COORDINATOR_UNAVAILABLE, str(error)))
        except CallerLeftError:
            await self._tell(shutting_down())
        else:
            if not self._departure.caller_gone:
                await self._sink.complete(answer, receipt)

    async def _tell(self, error: ApiError) -> None:
        if not self._departure.caller_gone:
            await self._sink.fail(error)

    async def _answer(self, awarded: Awarded) -> tuple[Answer, Receipt]:
        """The complete answer and its receipt, from the first node that gives one."""
        while True:
            self._settlement.awarded(awarded.transcript)
            attempt = Attempt(self._market, self._order, awarded, self._sink, self._departure)
            try:
                await attempt.run()
            except AttemptFailedError as failed:
                awarded = await self._next_award(awarded, failed.reason, otherwise=_no_answer(failed.reason))
            except DeclinedError as declined:  # the caller's mistake, if every node says so
                mistake = _callers_mistake(declined.decline, self._order, self._market)
                awarded = await self._next_award(awarded, declined.decline.reason, otherwise=mistake)
            except AnswerBrokenError as broken:
                await self._settle_broken(attempt, broken.reason)
            except CallerLeftError:
                return attempt.answer, await self._settle_left(attempt)
            else:
                return attempt.answer, await self._settle_complete(attempt)
            finally:
                self._count_first_token(attempt)

    def _count_first_token(self, attempt: Attempt) -> None:
        if attempt.first_token_at is not None:
            self._market.metrics.first_token(self._order.command.model, attempt.first_token_at - self._began)

    async def _next_award(self, awarded: Awarded, reason: str, *, otherwise: ApiError) -> Awarded:
        """Another node's award; `otherwise` when there is none, with a receipt that says so."""
        self._market.metrics.award_failed(reason)
        logger.info("node failed", extra={"kv": {"request_id": awarded.request_id, "reason": reason}})
        if self._departure.reason:
            await self._settlement.settle(Ending("cancelled", self._departure.reason))
            raise CallerLeftError
        try:
            result = await self._market.link.ask(ReportFailure(awarded.request_id, awarded.attempt, reason))
        except CommandRefusedError as error:
            await self._settlement.settle(Ending("failed", reason))
            raise otherwise from error
        if isinstance(result, Awarded):
            self._market.capacity.freed(self._order.command.model)
            return result
        if isinstance(result, JobSettled):
            await self._settlement.accept(result)
        raise otherwise

    async def _settle_complete(self, attempt: Attempt) -> Receipt:
        answer = attempt.answer
        if not await _computed(answer, partial(self._order.ask.shape.holds, answer)):
            await self._settle_broken(attempt, "protocol_violation")
        await self._sink.conclude(attempt.proof)
        delivery = await self._delivery(attempt, complete=True)
        receipt = await self._settlement.settle(Ending("completed", "", delivery, attempt.proof))
        if receipt.outcome != "completed":
            raise ApiError(NODE_FAILED, message_of(receipt.reason))
        return receipt

    async def _settle_broken(self, attempt: Attempt, reason: str) -> NoReturn:
        delivery = await self._delivered(attempt, complete=False)
        await self._settlement.settle(Ending("failed", reason, delivery, attempt.proof))
        raise _no_answer(reason)

    async def _settle_left(self, attempt: Attempt) -> Receipt:
        delivery = await self._delivery(attempt, complete=False)
        await self._settlement.settle(Ending("cancelled", self._departure.reason, delivery, attempt.proof))
        raise CallerLeftError

    async def _delivery(self, attempt: Attempt, *, complete: bool) -> Delivery:
        """What was handed over, counted again where that can be done: of embeddings the inputs alone."""
        delivery = await self._delivered(attempt, complete=complete)
        recounter, model = self._market.recounter, self._order.command.model
        if not recounter.knows(model):
            return delivery
        texts = [] if "embeddings" in self._order.command.needs else attempt.answer.choices()
        return msgspec.structs.replace(
            delivery,
            recounted_tokens=await recounter.count_answer(texts, model=model),
            recounted_prompt_tokens=await recounter.count_prompt(self._order.forwarded, model=model),
        )

    async def _delivered(self, attempt: Attempt, *, complete: bool) -> Delivery:
        return await _computed(attempt.answer, partial(self._sink.delivered, attempt.answer, complete=complete))


async def _computed(answer: Answer, compute: Callable[[], _Result]) -> _Result:
    """What is computed of an answer; of a large one in a thread, so that others get their turns meanwhile."""
    return await asyncio.to_thread(compute) if answer.text_bytes > LARGE_ANSWER_BYTES else compute()


def _callers_mistake(decline: Decline, order: Order, market: Market) -> ApiError:
    if decline.reason == "context_length_exceeded":
        return too_long(order, market.context_lengths.get(order.command.model))
    return ApiError(UNSUPPORTED_PARAMETER, "the node's engine does not support this request")


def _no_answer(reason: str) -> ApiError:
    if reason == "timeout":
        return ApiError(TIMEOUT, "no node answered in time")
    return ApiError(NODE_FAILED, message_of(reason))
