"""What the log says about nodes, for their operators and everybody else: projections, and what proves a statement.

Statements take a node's oldest receipts first, and each says what was payable after it. So the newest one and what came
after it are enough to know how the node's accounts stand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, Row, func, select

from pinaivu_host.store.database import Database
from pinaivu_host.store.schema import (
    CONFIGURATIONS,
    EPOCHS,
    LEAVES,
    NODES,
    ORDERS,
    RECEIPTS,
    STATEMENTS,
    SUSPENSIONS,
)
from pinaivu_shared.canonical import decode
from pinaivu_shared.leaves import MAX_LEAF_BYTES, StatementLeaf
from pinaivu_shared.terms import Order, Payout


@dataclass(frozen=True, slots=True)
class Suspension:
    """The newest suspension of a node; it may be over. `index` is that of its leaf."""

    index: int
    reason: str
    request_id: str
    suspended_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class NodeAccount:
    """How a node stands by the leaves stored so far. Amounts are micro-USDC, named as in `terms.NodeReport`.

    `earned` is what no statement covers yet; `stated` was stated ever, of it `payable` is not paid out yet.
    """

    operator: str
    registered_ms: int
    statements: int
    earned: int
    stated: int
    payable: int
    paid_out: int
    suspension: Suspension | None


@dataclass(frozen=True, slots=True)
class ListedStatement:
    """One statement as the list shows it."""

    number: int
    index: int
    amount: int
    payable: int
    period_start_ms: int
    period_end_ms: int


@dataclass(frozen=True, slots=True)
class StoredEpoch:
    """Stored canonical bytes, and the attestation document."""

    document: bytes
    manifest: bytes
    configuration: bytes


@dataclass(frozen=True, slots=True)
class StatementEvidence:
    """Stored bytes, unchanged: the statement's leaf, the receipts it names, the epochs that signed one of them."""

    index: int
    statement: bytes
    receipts: Sequence[bytes]
    epochs: Sequence[StoredEpoch]


class NodeRecords:
    """Nodes by id. For everybody: the log is public."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def account(self, node_id: str) -> NodeAccount | None:
        """How the node stands; None if no leaf names it."""
        return await self._database.read(lambda connection: _account(connection, node_id))

    async def statements(self, node_id: str, *, after: int, limit: int) -> list[ListedStatement]:
        """The node's statements with numbers above `after`, in order."""
        query = (
            select(STATEMENTS)
            .where(STATEMENTS.c.node_id == node_id, STATEMENTS.c.number > after)
            .order_by(STATEMENTS.c.number)
            .limit(limit)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [_listed(row) for row in rows]

    async def statement(self, node_id: str, number: int) -> StatementEvidence | None:
        """Everything about one statement but its log proof; None if there is no such statement."""
        return await self._database.read(lambda connection: _evidence(connection, node_id, number))


def _account(connection: Connection, node_id: str) -> NodeAccount | None:
    node = connection.execute(select(NODES).where(NODES.c.node_id == node_id)).first()
    if node is None:
        return None
    of_node = STATEMENTS.c.node_id == node_id
    stated = connection.execute(select(func.coalesce(func.sum(STATEMENTS.c.amount_micro_usdc), 0)).where(of_node))
    newest = connection.execute(select(STATEMENTS).where(of_node).order_by(STATEMENTS.c.number.desc()).limit(1)).first()
    total = int(stated.scalar_one())
    payable = 0 if newest is None else newest.payable_micro_usdc - _paid_since(connection, node_id, newest.leaf_index)
    return NodeAccount(
        operator=node.operator,
        registered_ms=node.registered_ms,
        statements=0 if newest is None else newest.number,
        earned=_earned(connection, node_id, -1 if newest is None else _last_stated(connection, newest.leaf_index)),
        stated=total,
        payable=payable,
        paid_out=total - payable,
        suspension=_suspension(connection, node_id),
    )


def _earned(connection: Connection, node_id: str, after_index: int) -> int:
    paid = func.coalesce(func.sum(RECEIPTS.c.payment_micro_usdc), 0)
    query = select(paid).where(RECEIPTS.c.node_id == node_id, RECEIPTS.c.leaf_index > after_index)
    return int(connection.execute(query).scalar_one())


def _last_stated(connection: Connection, index: int) -> int:
    return _statement_leaf(_leaf(connection, index)).receipts[-1]


def _paid_since(connection: Connection, node_id: str, index: int) -> int:
    """Payouts after a statement; those before it are in what it says is payable."""
    rows = connection.execute(select(ORDERS.c.payload).where(ORDERS.c.leaf_index > index)).scalars()
    orders = (msgspec.json.decode(payload, type=Order) for payload in rows)
    return sum(order.amount for order in orders if isinstance(order, Payout) and order.node_id == node_id)


def _suspension(connection: Connection, node_id: str) -> Suspension | None:
    newest = select(SUSPENSIONS).where(SUSPENSIONS.c.node_id == node_id).order_by(SUSPENSIONS.c.leaf_index.desc())
    row = connection.execute(newest.limit(1)).first()
    if row is None:
        return None
    return Suspension(row.leaf_index, row.reason, row.request_id, row.suspended_ms, row.until_ms)


def _listed(row: Row[tuple[object, ...]]) -> ListedStatement:
    return ListedStatement(
        number=row.number,
        index=row.leaf_index,
        amount=row.amount_micro_usdc,
        payable=row.payable_micro_usdc,
        period_start_ms=row.period_start_ms,
        period_end_ms=row.period_end_ms,
    )


def _evidence(connection: Connection, node_id: str, number: int) -> StatementEvidence | None:
    place = (STATEMENTS.c.node_id == node_id) & (STATEMENTS.c.number == number)
    index = connection.execute(select(STATEMENTS.c.leaf_index).where(place)).scalar()
    if index is None:
        return None
    raw = _leaf(connection, index)
    named = _statement_leaf(raw).receipts
    receipts = (
        select(LEAVES.c.leaf, RECEIPTS.c.attestation)
        .join_from(LEAVES, RECEIPTS, RECEIPTS.c.leaf_index == LEAVES.c.leaf_index)
        .where(LEAVES.c.leaf_index.in_(named))
        .order_by(LEAVES.c.leaf_index)
    )
    found = connection.execute(receipts).all()
    return StatementEvidence(
        index, raw, [row.leaf for row in found], _epochs(connection, index, {row.attestation for row in found})
    )


def _epochs(connection: Connection, index: int, attestations: set[str]) -> list[StoredEpoch]:
    """Those of the receipts, and the one that was in force at the statement's index."""
    in_force = select(func.max(EPOCHS.c.leaf_index)).where(EPOCHS.c.leaf_index < index).scalar_subquery()
    query = (
        select(EPOCHS.c.document, EPOCHS.c.manifest, CONFIGURATIONS.c.configuration)
        .join_from(EPOCHS, CONFIGURATIONS, CONFIGURATIONS.c.digest == EPOCHS.c.configuration)
        .where(EPOCHS.c.attestation.in_(sorted(attestations)) | (EPOCHS.c.leaf_index == in_force))
        .order_by(EPOCHS.c.leaf_index)
    )
    return [StoredEpoch(row.document, row.manifest, row.configuration) for row in connection.execute(query)]


def _leaf(connection: Connection, index: int) -> bytes:
    found: bytes = connection.execute(select(LEAVES.c.leaf).where(LEAVES.c.leaf_index == index)).scalar_one()
    return found


def _statement_leaf(raw: bytes) -> StatementLeaf:
    return decode(raw, StatementLeaf, check="statement", max_bytes=MAX_LEAF_BYTES)
