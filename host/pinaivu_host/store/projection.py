"""One transaction's worth of leaves, turned into rows: the leaf, the tree it completes, and the projections of it.

What the fold needs of everything before it is the right edge of the tree. Accounts are changed by sums, so that the
ones this host does not know are no harm.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, Table, bindparam, func, insert, select, update

from pinaivu_host.errors import JournalConflictError
from pinaivu_host.store.database import insert_missing, insert_or_change
from pinaivu_host.store.key_charges import add_charges, sum_charges
from pinaivu_host.store.leaf_rows import JobRecord, rows_of
from pinaivu_host.store.schema import ACCOUNTS, LEAVES, NODES, ORDERS, RECEIPTS, TREE_NODES
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.leaves import Leaf, OrderLeaf, parse_leaf
from pinaivu_shared.log.merkle import leaf_hash, node_hash
from pinaivu_shared.log.tree import CompactRange, edge_nodes
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.terms import Deposit

logger = logging.getLogger(__name__)

# Made once: the journal executes them for every commit.
_INSERT: Final = {LEAVES: insert(LEAVES), TREE_NODES: insert(TREE_NODES)}
_MOVE: Final = (
    update(ACCOUNTS)
    .where(ACCOUNTS.c.id == bindparam("account"))
    .values(
        credit_micro_usdc=ACCOUNTS.c.credit_micro_usdc + bindparam("deposited"),
        spent_micro_usdc=ACCOUNTS.c.spent_micro_usdc + bindparam("charged"),
    )
)


def load_tree(connection: Connection) -> CompactRange:
    """The right edge of the tree over everything that is stored."""
    last = connection.execute(select(func.max(LEAVES.c.leaf_index))).scalar()
    size = 0 if last is None else last + 1
    edge = [_node(connection, level, index) for level, index in edge_nodes(size)]
    return CompactRange.restore(size=size, edge=edge, root=_root(edge)) if edge else CompactRange()


def _node(connection: Connection, level: int, index: int) -> bytes:
    place = (TREE_NODES.c.level == level) & (TREE_NODES.c.node_index == index)
    found: bytes = connection.execute(select(TREE_NODES.c.hash).where(place)).scalar_one()
    return found


def _root(edge: list[bytes]) -> bytes:
    root = edge[-1]
    for left in reversed(edge[:-1]):
        root = node_hash(left, root)
    return root


class Transaction:
    """Rows of the leaves added so far; `write` inserts them all. `tree` is what stands after it commits."""

    def __init__(self, tree: CompactRange, record_of: Callable[[str], JobRecord | None]) -> None:
        self.tree: Final = tree.copy()
        self._record_of = record_of
        self._rows: dict[Table, list[dict[str, Any]]] = {}
        self._deposited: dict[str, int] = {}
        self._charged: dict[str, int] = {}
        self._pushed: dict[int, bytes] = {}

    def add(self, connection: Connection, index: int, leaf: bytes) -> None:
        """Take the next leaf, or an identical one again; JournalConflictError for any other."""
        if index != self.tree.size:
            self._compare(connection, index, leaf)
            return
        self._pushed[index] = leaf
        self._put(LEAVES, leaf_index=index, leaf=leaf)
        for level, node_index, subtree in self.tree.append(leaf_hash(leaf)):
            self._put(TREE_NODES, level=level, node_index=node_index, hash=subtree)
        try:
            self._project(index, parse_leaf(leaf))
        except (VerificationError, ValueError) as error:
            # The log is kept whole all the same: a later version may know this kind of leaf.
            logger.warning("a leaf cannot be read", extra={"kv": {"index": index, "error": str(error)}})

    def write(self, connection: Connection) -> None:
        """Insert everything, one statement per table."""
        for table, rows in self._rows.items():
            if table in _INSERT:
                connection.execute(_INSERT[table], rows)
            elif table is NODES:
                insert_or_change(connection, table, rows, changed=("operator",))
            elif table is ORDERS:
                # An order under the same reference that waits here and says something else is left to be refused.
                insert_or_change(connection, table, rows, changed=("leaf_index", "refusal"), only_if_equal="payload")
            else:
                insert_missing(connection, table, rows)
        add_charges(connection, sum_charges(self._rows.get(RECEIPTS, ())))
        accounts = self._deposited.keys() | self._charged.keys()
        if accounts:
            connection.execute(_MOVE, [self._moved(account) for account in sorted(accounts)])

    def _compare(self, connection: Connection, index: int, leaf: bytes) -> None:
        stored = self._pushed.get(index)
        if stored is None:
            stored = connection.execute(select(LEAVES.c.leaf).where(LEAVES.c.leaf_index == index)).scalar()
        if stored != leaf:
            found = "nothing yet" if stored is None else digest_of(stored)
            raise JournalConflictError(index, stored=found, pushed=digest_of(leaf))

    def _put(self, table: Table, **row: object) -> None:
        self._rows.setdefault(table, []).append(row)

    def _project(self, index: int, leaf: Leaf) -> None:
        record = self._record_of(leaf.request_id) if isinstance(leaf, Receipt) else None
        for table, row in rows_of(leaf, index, record):
            self._put(table, **row)
        match leaf:
            case Receipt():
                _add(self._charged, leaf.account, parse_usdc(leaf.charge_amount))
            case OrderLeaf(order=Deposit() as deposit):
                _add(self._deposited, deposit.account, deposit.amount)

    def _moved(self, account: str) -> dict[str, object]:
        deposited, charged = self._deposited.get(account, 0), self._charged.get(account, 0)
        return {"account": account, "deposited": deposited, "charged": charged}


def _add(sums: dict[str, int], account: str, amount: int) -> None:
    sums[account] = sums.get(account, 0) + amount
