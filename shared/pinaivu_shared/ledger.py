"""The ledger's rules: which transfers a log leaf makes. Double entry, integers of micro-USDC (DESIGN sections 4 and 6).

Every transfer takes from one account what it gives to another, so all accounts of the market always sum to zero. What
comes from outside (`deposits`, `promotions`: the order names which) is negative by what came in, `payouts` positive by
what went out.
"""

from typing import Final

import msgspec

from pinaivu_shared.leaves import Leaf, OrderLeaf, StatementLeaf
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.terms import Deposit, Payout

DEPOSITS: Final = "deposits"
PROMOTIONS: Final = "promotions"
PAYOUTS: Final = "payouts"
FEES: Final = "fees"


class Transfer(msgspec.Struct, frozen=True):
    """`amount` micro-USDC, more than none, from the account `debit` to the account `credit`."""

    debit: str
    credit: str
    amount: int


def customer_account(account: str) -> str:
    """A customer's credit."""
    return f"customer:{account}"


def node_account(node_id: str) -> str:
    """What a node has earned and no settlement statement covers yet."""
    return f"node:{node_id}"


def payable_account(node_id: str) -> str:
    """What was stated for a node and not paid out yet."""
    return f"payable:{node_id}"


def transfers_of(leaf: Leaf) -> list[Transfer]:
    """The transfers that a leaf makes, in order; none for leaves that move no money."""
    match leaf:
        case Receipt():
            transfers = _receipt_transfers(leaf)
        case OrderLeaf(order=Deposit() as order):
            transfers = [Transfer(order.fund, customer_account(order.account), order.amount)]
        case OrderLeaf(order=Payout() as order):
            transfers = [Transfer(payable_account(order.node_id), PAYOUTS, order.amount)]
        case StatementLeaf():
            transfers = [Transfer(node_account(leaf.node_id), payable_account(leaf.node_id), leaf.amount)]
        case _:
            transfers = []
    return [transfer for transfer in transfers if transfer.amount]


def _receipt_transfers(receipt: Receipt) -> list[Transfer]:
    payer = customer_account(receipt.account)
    payment, charge = parse_usdc(receipt.payment_amount), parse_usdc(receipt.charge_amount)
    return [Transfer(payer, node_account(receipt.node_id), payment), Transfer(payer, FEES, charge - payment)]
