"""The ledger: double entry in integers of micro-USDC. Every transfer is balanced, so all accounts sum to zero.

Accounts are `customers`, `fees` and `node:<node_id>`; credit is positive. Balances are a fold over receipts. Accounts
of single customers, holds and settlement statements follow with the market's issue.
"""

from pinaivu_shared.money import fee_on

CUSTOMERS = "customers"
FEES = "fees"


def node_account(node_id: str) -> str:
    """The account of a node's earnings."""
    return f"node:{node_id}"


class Ledger:
    """Balances in micro-USDC by account."""

    def __init__(self) -> None:
        self._balances: dict[str, int] = {}

    def balances(self) -> dict[str, int]:
        """A copy of every account that ever moved."""
        return dict(self._balances)

    def settle(self, *, node_id: str, payment: int, fee_bps: int) -> None:
        """Pay the node and the market's fee for one job."""
        self._transfer(CUSTOMERS, node_account(node_id), payment)
        self._transfer(CUSTOMERS, FEES, fee_on(payment, fee_bps))

    def _transfer(self, debit: str, credit: str, amount: int) -> None:
        assert amount >= 0
        if amount:
            self._balances[debit] = self._balances.get(debit, 0) - amount
            self._balances[credit] = self._balances.get(credit, 0) + amount
