"""`/admin/v1/orders` and `/admin/v1/payouts`: the operator's signed orders, and where each stands.

Every order is kept before it is sent, so an answer says one of two things: it is in the log (200), or it waits for an
enclave and will get there (202). The same reference and content again is the same order, and answers as it stands.
"""

import base64
import secrets
from typing import Annotated, Final, assert_never

import msgspec
from pydantic import Field
from starlette.types import Receive, Scope, Send

from pinaivu_host.errors import OrderConflictError
from pinaivu_host.gateway.admin.body import (
    Amount,
    OperatorShape,
    Reference,
    parse_amount,
    read_admin_body,
    wrong_value,
)
from pinaivu_host.gateway.authentication import authenticate_operator
from pinaivu_host.gateway.error_table import NO_OPERATOR_KEY, ORDER_CONFLICT, ORDER_REFUSED
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.http_answer import send_json
from pinaivu_host.operator_orders import OperatorKey, verify_order
from pinaivu_host.outbox import Outbox
from pinaivu_host.store.orders import Orders, StoredOrder
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.money import decimal_usdc
from pinaivu_shared.signed import Signed
from pinaivu_shared.terms import Deposit, Order, Payout

RECORD_LIMIT_S: Final = 10.0
"""How long an answer waits for an order to be in the log."""


class NewPayout(OperatorShape):
    """What was paid to a node outside, in USDC, and under which reference."""

    node_id: Annotated[str, Field(pattern=r"^node_[0-9a-f]{32}$")]
    amount: Amount
    reference: Reference


class SignedOrder(OperatorShape):
    """What `pinaivu host sign-order` printed."""

    order: Annotated[str, Field(max_length=8192)]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class AdminOrders:
    """Signs orders where this host holds the operator's key, and takes those that were signed elsewhere."""

    def __init__(
        self,
        orders: Orders,
        outbox: Outbox,
        configuration: Configuration,
        *,
        key: OperatorKey | None,
        admin_key: str | None,
    ) -> None:
        self._orders, self._outbox, self._configuration = orders, outbox, configuration
        self._key, self._admin_key = key, admin_key

    @property
    def key(self) -> OperatorKey:
        """The operator's key; ApiError (403) where this host does not hold it."""
        if self._key is None:
            raise ApiError(
                NO_OPERATOR_KEY,
                "this host holds no operator's key: sign the order where the key is (`pinaivu host sign-order`) "
                "and hand it in at POST /admin/v1/orders",
            )
        return self._key

    async def pay_out(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A payout that was made outside."""
        wanted = await read_admin_body(scope, receive, NewPayout, self._admin_key)
        amount = parse_amount(wanted.amount, "amount")
        signed = self.key.payout(reference=wanted.reference, node_id=wanted.node_id, amount=amount)
        await self.answer(scope, send, signed)

    async def hand_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An order that was signed on another machine."""
        wanted = await read_admin_body(scope, receive, SignedOrder, self._admin_key)
        try:
            signed = Signed(base64.b64decode(wanted.order, validate=True), bytes.fromhex(wanted.signature))
            verify_order(signed, self._configuration)
        except (ValueError, VerificationError) as error:  # ValueError: no base64, or not even ASCII
            raise wrong_value("order", str(error)) from None
        await self.answer(scope, send, signed)

    async def list(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """The newest orders; before all others those that wait."""
        authenticate_operator(scope, self._admin_key)
        shown = {"orders": [_shown(order) for order in await self._orders.newest()]}
        await send_json(send, msgspec.json.encode(shown), request_id=scope["state"]["request_id"])

    async def answer(self, scope: Scope, send: Send, signed: Signed) -> None:
        """Carry the order out and say how it stands; ApiError (409) when its reference is taken, or it is refused."""
        try:
            await self._orders.add(signed)
        except OrderConflictError as error:
            raise ApiError(ORDER_CONFLICT, str(error), param="reference") from None
        order = await self.decided(signed)
        if order.state == "refused":
            raise ApiError(ORDER_REFUSED, f"the enclave refused the order: {order.refusal}")
        status = 200 if order.state == "recorded" else 202
        shown = msgspec.json.encode(_shown(order))
        await send_json(send, shown, request_id=scope["state"]["request_id"], status=status)

    async def decided(self, signed: Signed) -> StoredOrder:
        """How an order that is in the outbox stands, once that is known or RECORD_LIMIT_S have passed."""
        reference = verify_order(signed, self._configuration).reference
        return await self._outbox.decided(reference, limit_s=RECORD_LIMIT_S)


def new_reference(kind: str) -> str:
    """A reference that no order has."""
    return f"{kind}-{secrets.token_hex(12)}"


def _shown(stored: StoredOrder) -> dict[str, object]:
    shown: dict[str, object] = {"reference": stored.reference, **_content(stored.order)}
    shown |= {"created_ms": stored.created_ms, "state": stored.state}
    if stored.leaf_index is not None:
        shown["leaf_index"] = stored.leaf_index
    elif stored.refusal is not None:
        shown["refusal"] = stored.refusal
    return shown


def _content(order: Order) -> dict[str, object]:
    amount = decimal_usdc(order.amount)
    match order:
        case Deposit():
            return {"kind": "deposit", "account_id": order.account, "amount": amount, "fund": order.fund}
        case Payout():
            return {"kind": "payout", "node_id": order.node_id, "amount": amount}
        case _:
            assert_never(order)
