"""The ledger: posted balances, and what open jobs hold of them (`pinaivu_shared.ledger` has the transfers of a leaf).

Balances are a fold over leaves. A hold is a pending transfer: made before an award, released when its job is settled,
and never in the log, for a job that an enclave loses is never charged. What a customer may spend is the balance less
everything held, so it cannot go below zero however many jobs run at once.
"""

import msgspec

from pinaivu_shared.leaves import Leaf
from pinaivu_shared.ledger import DEPOSITS, PROMOTIONS, customer_account, transfers_of

HOLD = "hold"


class _Hold(msgspec.Struct, frozen=True):
    account: str
    amount: int


class Ledger:
    """Balances in micro-USDC by account name; `transfers` counts those made, numbered from 1."""

    def __init__(self) -> None:
        self.transfers = 0
        self._balances: dict[str, int] = {}
        self._holds: dict[str, _Hold] = {}
        self._held: dict[str, int] = {}

    def posted(self) -> dict[str, int]:
        """Every account that ever moved, holds not counted: what the log says."""
        return dict(self._balances)

    def balances(self) -> dict[str, int]:
        """Every account that ever moved; customers' less what is held, which stands under `hold`."""
        shown = dict(self._balances)
        for account, amount in self._held.items():
            shown[customer_account(account)] -= amount
        if self._held:
            shown[HOLD] = sum(self._held.values())
        return shown

    def balance(self, name: str) -> int:
        """What the account has, holds not counted."""
        return self._balances.get(name, 0)

    @property
    def issued(self) -> int:
        """All that was ever paid in or given: no sum of any accounts can be more."""
        return -self.balance(DEPOSITS) - self.balance(PROMOTIONS)

    def available(self, account: str) -> int:
        """What a customer can still spend."""
        return self.balance(customer_account(account)) - self.held(account)

    def held(self, account: str) -> int:
        """What the customer's open jobs hold."""
        return self._held.get(account, 0)

    def post(self, leaf: Leaf) -> None:
        """Make the transfers of one more leaf."""
        for transfer in transfers_of(leaf):
            assert transfer.amount > 0
            self._balances[transfer.debit] = self.balance(transfer.debit) - transfer.amount
            self._balances[transfer.credit] = self.balance(transfer.credit) + transfer.amount
            self.transfers += 1

    def hold(self, request_id: str, account: str, amount: int) -> None:
        """Set credit aside for a job; the caller has seen that it is available."""
        assert request_id not in self._holds
        assert 0 <= amount <= self.available(account)
        if amount:
            self._holds[request_id] = _Hold(account, amount)
            self._held[account] = self.held(account) + amount

    def release(self, request_id: str) -> None:
        """Give back what the job holds."""
        hold = self._holds.pop(request_id, None)
        if hold is None:
            return
        left = self._held[hold.account] - hold.amount
        if left:
            self._held[hold.account] = left
        else:
            del self._held[hold.account]
