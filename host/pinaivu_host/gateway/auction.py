"""Getting the first award for an order: the enclave decides, the gateway at most waits a little for what is scarce.

That is a free slot of a node that can serve it, or credit of the account that its other requests hold until they are
settled. Each has queues of its own, so that an account that is short of credit holds up nobody else.
"""

import asyncio
import logging
from dataclasses import dataclass

from pinaivu_host.capacity import Capacity, Want
from pinaivu_host.errors import CommandRefusedError
from pinaivu_host.gateway.departure import CallerLeftError, Departure
from pinaivu_host.gateway.error_table import (
    COORDINATOR_UNAVAILABLE,
    CREDIT_HELD,
    INSUFFICIENT_CREDIT,
    NO_NODE_AVAILABLE,
    OVERLOADED,
    UNSUPPORTED_PARAMETER,
)
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.market import Market
from pinaivu_host.gateway.order import Order, too_long, unknown_model
from pinaivu_shared.wire.link import Awarded, JobRefused, RefusedReason, Result

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Scarce:
    """What an order has to wait for: in which queue, and what the caller is told if it was in vain."""

    queues: Capacity
    want: Want
    reason: RefusedReason
    error: ApiError

    @property
    def crowded(self) -> bool:
        """Whether others wait who come before a newcomer; then he queues up first."""
        return self.queues.crowded(self.want)


async def hold_auction(market: Market, order: Order, departure: Departure) -> Awarded:
    """The first award.

    Raises ApiError when there is none (400, 422, 429, 503), CallerLeftError if the caller left while waiting for one,
    CoordinatorUnavailableError without an enclave.
    """
    until = asyncio.get_running_loop().time() + market.queue_s
    places = (_slots(market, order), _credit(market, order))
    found = next((one for one in places if one.crowded), None) or await _try(market, order)
    while isinstance(found, _Scarce):
        found = await _wait(market, order, departure, found, until)
    market.metrics.awarded()
    return found


async def _wait(market: Market, order: Order, departure: Departure, scarce: _Scarce, until: float) -> Awarded | _Scarce:
    """Stand in the queue until there is an award, or something else to wait for."""
    ticket = scarce.queues.join(scarce.want, account=order.command.account)
    if ticket is None:
        market.metrics.refused(scarce.reason)
        raise scarce.error
    departure.attend(ticket.wake)
    loop = asyncio.get_running_loop()
    try:
        while (left_s := until - loop.time()) > 0:
            await ticket.wait(scarce.queues.patience_s(ticket, left_s))
            if departure.reason:
                raise CallerLeftError
            found = await _try(market, order)
            if isinstance(found, Awarded) or found.queues is not scarce.queues:
                return found
    finally:
        scarce.queues.leave(ticket)
    market.metrics.refused(scarce.reason)
    raise scarce.error


async def _try(market: Market, order: Order) -> Awarded | _Scarce:
    """One auction; what is scarce where waiting may help."""
    try:
        result = await market.link.ask(order.command)
    except CommandRefusedError as error:
        raise _not_opened(error) from error
    match result:
        case Awarded():
            return result
        case JobRefused(reason="no_free_slot"):
            return _slots(market, order)
        case JobRefused(reason="credit_held"):
            return _credit(market, order)
        case _:
            market.metrics.refused(result.reason if isinstance(result, JobRefused) else "")
            raise _refusal(result, order, market.context_lengths.get(order.command.model))


def _refusal(result: Result, order: Order, context_length: int | None) -> ApiError:
    """What the caller is told where waiting does not help."""
    model = order.command.model
    match result:
        case JobRefused(reason="insufficient_credit"):
            return ApiError(INSUFFICIENT_CREDIT, "what this account has left does not pay for this request")
        case JobRefused(reason="unknown_model"):
            return unknown_model(model)
        case JobRefused(reason="no_capable_node"):
            return _incapable(order)
        case JobRefused(reason="context_length_exceeded"):
            return too_long(order, context_length)
        case _:
            return ApiError(NO_NODE_AVAILABLE, f"no node offers {model!r} right now, try again")


def _not_opened(error: CommandRefusedError) -> ApiError:
    if error.refusal == "market_full":
        return ApiError(OVERLOADED, "as many requests run as the coordinator takes, try again")
    logger.error("job not opened", extra={"kv": {"refusal": error.refusal}})
    return ApiError(COORDINATOR_UNAVAILABLE, "the coordinator did not take this request, try again")


def _incapable(order: Order) -> ApiError:
    """The enclave does not say which need is the one too many: all are named, the kind of request where it is alone."""
    model, needs = order.command.model, order.command.needs
    asked = [order.ask.names.needs[need] for need in needs]
    special = [one for one in asked if one[0] != "model"] or asked
    named = ", ".join(text for _, text in special)
    message = f"no node that offers {model!r} now can do all that this request needs: {named}"
    return ApiError(UNSUPPORTED_PARAMETER, message, param=special[0][0])


def _slots(market: Market, order: Order) -> _Scarce:
    """What the enclave looks at of a request when it looks for a slot; of its length the power of two."""
    command = order.command
    want = Want(command.model, frozenset(command.needs), command.request_bytes.bit_length())
    busy = ApiError(NO_NODE_AVAILABLE, f"every node that can serve this by {command.model!r} is busy, try again")
    return _Scarce(market.capacity, want, "no_free_slot", busy)


def _credit(market: Market, order: Order) -> _Scarce:
    held = ApiError(CREDIT_HELD, "the credit of this account is held by its running requests, try again")
    return _Scarce(market.credit, Want(order.command.account), "credit_held", held)
