"""Orders of the operator: deposits and payouts, each signed by the key in the configuration and counted once."""

from pinaivu_enclave.core.commands import (
    DuplicateOrderError,
    Effect,
    ImpossibleOrderError,
    MarketFullError,
    UnknownSubjectError,
)
from pinaivu_enclave.core.journal import Journal
from pinaivu_enclave.core.keys import EpochKeys
from pinaivu_enclave.core.market_state import MarketState
from pinaivu_shared.canonical import decode
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.leaves import OrderLeaf, sign_leaf, verify_order
from pinaivu_shared.ledger import payable_account
from pinaivu_shared.money import AMOUNT_MAX
from pinaivu_shared.signed import Signed
from pinaivu_shared.terms import Order, Payout
from pinaivu_shared.wire.link import OrderRecorded


class OrderOffice:
    """Writes orders and folds them into the market's state."""

    def __init__(self, keys: EpochKeys, state: MarketState, journal: Journal) -> None:
        self._keys, self._state, self._journal = keys, state, journal

    def record(self, signed: Signed, now_ms: int) -> list[Effect]:
        """The order as a leaf; raises with nothing changed where it is not the operator's, or not possible."""
        order: Order = decode(signed.payload, Order, check="order")  # type: ignore[arg-type]  # a union
        leaf = OrderLeaf(
            index=self._journal.size,
            order=order,
            operator_signature=signed.signature.hex(),
            recorded_ms=now_ms,
            coordinator_signature="",
        )
        check_order(leaf, self._state, origin=self._journal.origin)
        if self._journal.full:
            raise MarketFullError("too many leaves wait to be stored")
        self._state.fold(leaf)
        return [self._journal.append(sign_leaf(leaf, self._keys.receipt)), OrderRecorded(leaf.index)]


def check_order(leaf: OrderLeaf, state: MarketState, *, origin: str) -> None:
    """VerificationError unless the operator signed it, for this log.

    DuplicateOrderError for a reference that was used before, UnknownSubjectError for a node that is not known,
    ImpossibleOrderError for an amount that the accounts do not allow.
    """
    assert state.configuration is not None
    verify_order(leaf, bytes.fromhex(state.configuration.operator_key))
    order = leaf.order
    if order.origin != origin:
        raise VerificationError("order", f"is for the log {order.origin}")
    if order.reference in state.references:
        raise DuplicateOrderError(f"an order with reference {order.reference} was carried out before")
    if isinstance(order, Payout):
        if order.node_id not in state.nodes:
            raise UnknownSubjectError(f"no node {order.node_id}")
        payable = state.ledger.balance(payable_account(order.node_id))
        if order.amount > payable:
            raise ImpossibleOrderError(f"pays out {order.amount}, stated and not yet paid is {payable}")
    elif state.ledger.issued + order.amount > AMOUNT_MAX:
        raise ImpossibleOrderError(
            f"at most {AMOUNT_MAX} micro-USDC can be paid in, in all: {state.ledger.issued} were"
        )
