"""Paid receipts that no settlement statement covers yet, by node and in order. A fold over receipts and statements."""

from collections import deque
from collections.abc import Iterator

import msgspec

from pinaivu_shared.errors import VerificationError
from pinaivu_shared.leaves import StatementLeaf
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.receipt import Receipt, written_ms


class PaidReceipt(msgspec.Struct, frozen=True):
    """Leaf index, micro-USDC, and when it was written, to the second."""

    index: int
    amount: int
    written_ms: int


class _Account(msgspec.Struct):
    waiting: deque[PaidReceipt]
    statements: int = 0
    stated_until_ms: int = 0


class Unstated:
    """What statements have still to say."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def nodes(self) -> Iterator[str]:
        """Nodes with receipts that wait for a statement."""
        return (node_id for node_id, account in self._accounts.items() if account.waiting)

    def due(self, node_id: str, *, before_ms: int, durable: int, limit: int) -> list[PaidReceipt]:
        """The node's oldest waiting receipts, of leaves below `durable` that were written before this time.

        None for a period that ends before the node's last one did: another configuration may have a longer one.
        """
        found: list[PaidReceipt] = []
        if before_ms <= self._accounts[node_id].stated_until_ms:
            return found
        for receipt in self._accounts[node_id].waiting:
            if receipt.written_ms >= before_ms or receipt.index >= durable or len(found) == limit:
                break
            found.append(receipt)
        return found

    def next_number(self, node_id: str) -> int:
        """The number of the node's next statement."""
        return self._accounts[node_id].statements + 1

    def period_start_ms(self, node_id: str) -> int:
        """Where the node's next statement begins: the end of the last one, or its first receipt."""
        account = self._accounts[node_id]
        return account.stated_until_ms or account.waiting[0].written_ms

    def check_statement(self, leaf: StatementLeaf) -> None:
        """VerificationError unless the statement covers exactly the node's oldest receipts, and in order."""
        account = self._accounts.get(leaf.node_id)
        waiting = [] if account is None else list(account.waiting)[: len(leaf.receipts)]
        held = (tuple(one.index for one in waiting), sum(one.amount for one in waiting))
        if account is None or (leaf.receipts, leaf.amount) != held or leaf.number != account.statements + 1:
            raise VerificationError("statement", f"number {leaf.number} of {leaf.node_id} is not what its receipts say")

    def fold_receipt(self, receipt: Receipt) -> None:
        """One more receipt; those that pay nothing are in no statement."""
        if amount := parse_usdc(receipt.payment_amount):
            account = self._accounts.setdefault(receipt.node_id, _Account(deque()))
            account.waiting.append(PaidReceipt(receipt.log.index, amount, written_ms(receipt)))

    def fold_statement(self, leaf: StatementLeaf) -> None:
        """The receipts it names wait no more."""
        account = self._accounts[leaf.node_id]
        for index in leaf.receipts:
            assert account.waiting.popleft().index == index
        account.statements, account.stated_until_ms = leaf.number, leaf.period_end_ms
