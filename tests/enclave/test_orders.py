"""Orders of the operator: money comes in and goes out by its signature alone, and each order counts once."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_enclave.core.commands import DuplicateOrderError, ImpossibleOrderError, Tick, UnknownSubjectError
from pinaivu_shared.canonical import encode
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.leaves import Leaf, OrderLeaf, parse_leaf, sign_leaf, verify_order
from pinaivu_shared.money import AMOUNT_MAX
from pinaivu_shared.receipt import Receipt, sign_receipt
from pinaivu_shared.signed import Signed, sign_ed25519
from pinaivu_shared.terms import Deposit, Payout
from pinaivu_shared.wire import link

from .market import ACCOUNT, CREDIT, OPERATOR_KEY, ORIGIN, Market, Node, signed_order

STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))
DEPOSIT = Deposit(origin=ORIGIN, reference="r-1", account=ACCOUNT, amount=500, fund="deposits")


def orders(market: Market) -> list[OrderLeaf]:
    return [leaf for leaf in map(parse_leaf, market.leaves) if isinstance(leaf, OrderLeaf)]


@pytest.fixture
def stated(market: Market, cheap: Node) -> tuple[Market, Node, int]:
    """A node to whom something is payable: the amount."""
    market.settle(market.open_job(), cheap)
    market.acknowledge()
    market.now_ms += 120_000
    market.apply(Tick())
    return market, cheap, market.balances()[f"payable:{cheap.node_id}"]


@pytest.mark.parametrize("fund", ["deposits", "promotions"])
def test_a_deposit_is_credit_and_comes_from_its_fund(fund: str) -> None:
    market = Market(credit=0)
    market.deposit(500, fund=fund)
    assert market.balances() == {fund: -500, f"customer:{ACCOUNT}": 500}


def test_an_order_is_a_leaf_with_the_operators_own_signature(market: Market) -> None:
    recorded = market.apply(signed_order(DEPOSIT))
    leaf = orders(market)[-1]
    assert recorded == link.OrderRecorded(leaf.index)
    assert (leaf.order, leaf.recorded_ms) == (DEPOSIT, market.now_ms)
    verify_order(leaf, OPERATOR_KEY.public_key().public_bytes_raw())


def unsigned(order: Deposit) -> link.RecordOrder:
    return link.RecordOrder(Signed(encode(order), b""))


def signed_as_statement(order: Deposit) -> link.RecordOrder:
    payload = encode(order)
    return link.RecordOrder(Signed(payload, sign_ed25519("statement", payload, OPERATOR_KEY)))


def signed_for_less(order: Deposit) -> link.RecordOrder:
    less = msgspec.structs.replace(order, amount=1)
    return link.RecordOrder(Signed(encode(order), signed_order(less).order.signature))


def signed_by_a_stranger(order: Deposit) -> link.RecordOrder:
    return signed_order(order, STRANGER)


def signed_at_length(order: Deposit) -> link.RecordOrder:
    signed = signed_order(order).order
    return link.RecordOrder(Signed(signed.payload, signed.signature + b"\0"))


@pytest.mark.parametrize(
    "forge", [unsigned, signed_as_statement, signed_for_less, signed_by_a_stranger, signed_at_length]
)
def test_what_the_operator_did_not_sign_moves_nothing(
    market: Market, forge: Callable[[Deposit], link.RecordOrder]
) -> None:
    with pytest.raises(VerificationError, match="order signature"):
        market.apply(forge(DEPOSIT))
    assert market.balances()[f"customer:{ACCOUNT}"] == CREDIT
    assert len(orders(market)) == 1


def test_an_order_for_another_log_is_refused(market: Market) -> None:
    with pytest.raises(VerificationError, match=r"for the log other\.test"):
        market.deposit(500, origin="other.test/log")


@pytest.mark.parametrize("amount", [0, -1, AMOUNT_MAX + 1])
def test_amounts_have_bounds(market: Market, amount: int) -> None:
    with pytest.raises(VerificationError, match="order: not of the expected shape"):
        market.deposit(amount)


@pytest.mark.parametrize("account", [ACCOUNT, "acct_" + "0" * 32])
def test_all_accounts_together_hold_no_more_than_the_largest_amount(account: str) -> None:
    """Any sum of them, such as a statement's, then fits canonical JSON."""
    market = Market(credit=0)
    market.deposit(AMOUNT_MAX)
    with pytest.raises(ImpossibleOrderError, match="at most"):
        market.deposit(1, account=account)
    assert market.balances()[f"customer:{ACCOUNT}"] == AMOUNT_MAX


def test_an_order_counts_once(market: Market) -> None:
    market.apply(signed_order(DEPOSIT))
    with pytest.raises(DuplicateOrderError):
        market.apply(signed_order(DEPOSIT))
    assert market.balances()[f"customer:{ACCOUNT}"] == CREDIT + 500


def test_a_reference_counts_once_whatever_it_is_for(stated: tuple[Market, Node, int]) -> None:
    market, node, _ = stated
    market.apply(signed_order(DEPOSIT))
    for changes in ({"amount": 1}, {"fund": "promotions"}, {"account": "acct_" + "0" * 32}):
        with pytest.raises(DuplicateOrderError):
            market.apply(signed_order(msgspec.structs.replace(DEPOSIT, **changes)))
    with pytest.raises(DuplicateOrderError):
        market.pay_out(node.node_id, 1, reference=DEPOSIT.reference)


def test_an_order_counts_once_across_a_restart(market: Market) -> None:
    market.apply(signed_order(DEPOSIT))
    again = Market(stored=tuple(market.leaves), checkpoint=market.checkpoint)
    with pytest.raises(DuplicateOrderError):
        again.apply(signed_order(DEPOSIT))


def test_a_refused_order_does_not_use_up_its_reference(market: Market) -> None:
    with pytest.raises(VerificationError):
        market.apply(signed_order(DEPOSIT, STRANGER))
    assert isinstance(market.apply(signed_order(DEPOSIT)), link.OrderRecorded)


def test_a_payout_takes_from_what_is_payable(stated: tuple[Market, Node, int]) -> None:
    market, node, payable = stated
    market.pay_out(node.node_id, payable - 1)
    assert market.balances()[f"payable:{node.node_id}"] == 1
    assert market.balances()["payouts"] == payable - 1
    market.pay_out(node.node_id, 1)
    assert market.balances()[f"payable:{node.node_id}"] == 0


def test_more_than_is_payable_is_not_paid_out(stated: tuple[Market, Node, int]) -> None:
    market, node, payable = stated
    with pytest.raises(ImpossibleOrderError, match=f"stated and not yet paid is {payable}"):
        market.pay_out(node.node_id, payable + 1)
    market.pay_out(node.node_id, payable)
    with pytest.raises(ImpossibleOrderError, match="stated and not yet paid is 0"):
        market.pay_out(node.node_id, 1)


def test_what_is_earned_but_not_stated_is_not_paid_out(market: Market, cheap: Node) -> None:
    market.settle(market.open_job(), cheap)
    with pytest.raises(ImpossibleOrderError, match="stated and not yet paid is 0"):
        market.pay_out(cheap.node_id, 1)


def test_nobody_pays_out_to_a_node_that_the_market_does_not_know(market: Market) -> None:
    with pytest.raises(UnknownSubjectError):
        market.pay_out("node_" + "0" * 32, 1)


@given(st.binary(max_size=300))
def test_whatever_is_handed_in_is_an_order_or_refused(payload: bytes) -> None:
    market = Market(credit=0)
    with pytest.raises(VerificationError):
        market.apply(link.RecordOrder(Signed(payload, OPERATOR_KEY.sign(b"pinaivu/order/v1\0" + payload))))
    assert market.balances() == {}


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_byte_of_an_order_is_refused(position: int, value: int) -> None:
    """Also one that changes only how it is written: an order has one spelling."""
    market, order = Market(credit=0), signed_order(DEPOSIT).order
    payload = bytearray(order.payload)
    position %= len(payload)
    if payload[position] == value:
        return
    payload[position] = value
    with pytest.raises(VerificationError):
        market.apply(link.RecordOrder(Signed(bytes(payload), order.signature)))


def resumed_with(market: Market, which: int, leaf: Leaf) -> Market:
    """Resume from leaves of which one is another, under the enclave's own signature."""
    keys = market.boot._keys
    assert keys is not None
    raw = sign_receipt(leaf, keys.receipt) if isinstance(leaf, Receipt) else sign_leaf(leaf, keys.receipt)
    leaves = [*market.leaves[:which], raw, *market.leaves[which + 1 :]]
    return Market(stored=tuple(leaves), checkpoint="", now_ms=market.now_ms)


def changed(order: Deposit | Payout, **changes: Any) -> dict[str, Any]:
    other = msgspec.structs.replace(order, **changes)
    return {"order": other, "operator_signature": signed_order(other).order.signature.hex()}


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda leaf: {"operator_signature": signed_order(leaf.order, STRANGER).order.signature.hex()}, "order sig"),
        (lambda leaf: {"order": msgspec.structs.replace(leaf.order, amount=10**9)}, "order signature"),
        (lambda leaf: changed(leaf.order, origin="other.test/log"), "for the log"),
        (lambda leaf: changed(leaf.order, reference="deposit-2"), "carried out before"),
    ],
    ids=["a stranger's", "another amount", "another log", "reference used before"],
)
def test_a_stored_order_is_checked_again_at_resumption(
    market: Market, change: Callable[[OrderLeaf], dict[str, Any]], check: str
) -> None:
    assert orders(market)[0].order.reference == "deposit-2"
    market.apply(signed_order(DEPOSIT))
    leaf = orders(market)[-1]
    assert len(orders(resumed_with(market, leaf.index, leaf))) == 2
    with pytest.raises(VerificationError, match=check):
        resumed_with(market, leaf.index, msgspec.structs.replace(leaf, **change(leaf)))


def test_a_stored_payout_above_what_was_payable_is_refused(stated: tuple[Market, Node, int]) -> None:
    market, node, payable = stated
    market.pay_out(node.node_id, payable)
    leaf = orders(market)[-1]
    with pytest.raises(VerificationError, match="pays out"):
        resumed_with(market, leaf.index, msgspec.structs.replace(leaf, **changed(leaf.order, amount=payable + 1)))


def test_a_stored_deposit_above_what_may_be_paid_in_is_refused() -> None:
    market = Market(credit=0)
    market.deposit(AMOUNT_MAX - 1)
    market.deposit(1)
    leaf = orders(market)[-1]
    with pytest.raises(VerificationError, match="order: at most"):
        resumed_with(market, leaf.index, msgspec.structs.replace(leaf, **changed(leaf.order, amount=2)))


def test_a_stored_payout_to_nobody_is_refused(stated: tuple[Market, Node, int]) -> None:
    market, node, payable = stated
    market.pay_out(node.node_id, payable)
    leaf = orders(market)[-1]
    other = changed(leaf.order, node_id="node_" + "0" * 32)
    with pytest.raises(VerificationError, match="no node"):
        resumed_with(market, leaf.index, msgspec.structs.replace(leaf, **other))


def test_a_stored_receipt_that_overdraws_its_account_is_refused() -> None:
    market = Market(credit=100)
    node = Node(market, "a").register().quote()
    receipt = market.settle(market.open_job(), node)
    for charge, taken in (("0.000100 USDC", True), ("0.000101 USDC", False)):
        dearer = msgspec.structs.replace(receipt, charge_amount=charge)
        if taken:
            resumed_with(market, receipt.log.index, dearer)
            continue
        with pytest.raises(VerificationError, match="more than its credit"):
            resumed_with(market, receipt.log.index, dearer)
    stranger = msgspec.structs.replace(receipt, account="acct_" + "b" * 32)
    with pytest.raises(VerificationError, match="more than its credit"):
        resumed_with(market, receipt.log.index, stranger)


def test_a_deposit_cannot_be_moved_behind_the_receipt_that_it_pays_for() -> None:
    market = Market()
    node = Node(market, "a").register().quote()
    receipt = market.settle(market.open_job(), node)
    leaves, at = list(market.leaves), orders(market)[0].index
    leaves[at], leaves[receipt.log.index] = leaves[receipt.log.index], leaves[at]
    with pytest.raises(VerificationError, match="says that it is leaf"):
        Market(stored=tuple(leaves), checkpoint="")
