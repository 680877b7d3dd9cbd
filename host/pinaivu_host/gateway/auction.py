"""Getting the first award for an order: the enclave decides, the gateway at most waits a little for a free slot."""

import asyncio

from pinaivu_host.capacity import Ticket
from pinaivu_host.errors import CommandRefusedError
from pinaivu_host.gateway.departure import CallerLeftError, Departure
from pinaivu_host.gateway.errors import (
    CONTEXT_LENGTH_EXCEEDED,
    COORDINATOR_UNAVAILABLE,
    NO_NODE_AVAILABLE,
    ApiError,
)
from pinaivu_host.gateway.market import Market
from pinaivu_host.gateway.order import Order, unknown_model
from pinaivu_shared.wire.link import Awarded, JobRefused


async def hold_auction(market: Market, order: Order, departure: Departure) -> Awarded:
    """The first award.

    Raises ApiError when there is none (400, 422, 503), CallerLeftError if the caller left while waiting for one,
    CoordinatorUnavailableError without an enclave.
    """
    model = order.command.model
    ticket = None
    if market.capacity.crowded(model):
        ticket = _queue_up(market, model, departure)
    elif (awarded := await _try(market, order)) is not None:
        return awarded
    ticket = ticket or _queue_up(market, model, departure)
    try:
        return await _wait_for_slot(market, order, departure, ticket)
    finally:
        market.capacity.leave(ticket)


def _queue_up(market: Market, model: str, departure: Departure) -> Ticket:
    ticket = market.capacity.join(model)
    if ticket is None:
        raise _busy(model)
    departure.attend(ticket.wake)
    return ticket


async def _wait_for_slot(market: Market, order: Order, departure: Departure, ticket: Ticket) -> Awarded:
    loop = asyncio.get_running_loop()
    until = loop.time() + market.queue_s
    while (left_s := until - loop.time()) > 0:
        await ticket.wait(market.capacity.patience_s(ticket, left_s))
        if departure.reason:
            raise CallerLeftError
        awarded = await _try(market, order)
        if awarded is not None:
            return awarded
    raise _busy(order.command.model)


async def _try(market: Market, order: Order) -> Awarded | None:
    """One auction; None when nodes offer the model but all their slots are taken."""
    try:
        result = await market.link.ask(order.command)
    except CommandRefusedError as error:
        raise ApiError(COORDINATOR_UNAVAILABLE, f"the coordinator takes no new jobs: {error.refusal}") from error
    match result:
        case Awarded():
            return result
        case JobRefused(reason="no_free_slot"):
            return None
        case JobRefused(reason="unknown_model"):
            raise unknown_model(order.command.model)
        case JobRefused(reason="context_length_exceeded"):
            raise ApiError(
                CONTEXT_LENGTH_EXCEEDED,
                "the conversation is longer than the context of every node that offers this model",
                param="messages",
            )
        case _:
            raise ApiError(NO_NODE_AVAILABLE, f"no node offers {order.command.model!r} right now, try again")


def _busy(model: str) -> ApiError:
    return ApiError(NO_NODE_AVAILABLE, f"every node that offers {model!r} is busy, try again")
