"""Orders on their way into the log, and where each stands. One is kept before it is sent, and never thrown away."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, func, select, update

from pinaivu_host.clock import now_ms
from pinaivu_host.errors import OrderConflictError
from pinaivu_host.operator_orders import read_order
from pinaivu_host.store.database import Database, insert_missing
from pinaivu_host.store.schema import ORDERS
from pinaivu_shared.signed import Signed
from pinaivu_shared.terms import Order

SHOWN_MAX: Final = 1000
_UNDECIDED: Final = ORDERS.c.leaf_index.is_(None) & ORDERS.c.refusal.is_(None)


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """An order, and the leaf it became or why the enclave refused it for good; neither while it waits."""

    order: Order
    signed: Signed
    created_ms: int
    leaf_index: int | None
    refusal: str | None

    @property
    def reference(self) -> str:
        """The operator's own name for it, by which it counts once."""
        return self.order.reference

    @property
    def state(self) -> Literal["pending", "recorded", "refused"]:
        """Where it stands."""
        if self.leaf_index is not None:
            return "recorded"
        return "pending" if self.refusal is None else "refused"


class Orders:
    """The table. What is passed in was verified, or signed here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, signed: Signed) -> StoredOrder:
        """Keep it durably. The same one again changes nothing; OrderConflictError for another of its reference."""
        return await self._database.write(lambda connection: add_order(connection, signed))

    async def find(self, reference: str) -> StoredOrder:
        """An order that was added."""
        return await self._database.read(lambda connection: _find(connection, reference))

    async def pending(self) -> list[StoredOrder]:
        """Those neither recorded nor refused, oldest first."""
        query = select(ORDERS).where(_UNDECIDED).order_by(ORDERS.c.created_ms, ORDERS.c.reference)
        return [_stored(row) for row in await self._database.read(lambda connection: connection.execute(query).all())]

    async def count_pending(self) -> int:
        """How many are neither recorded nor refused."""
        query = select(func.count()).select_from(ORDERS).where(_UNDECIDED)
        return await self._database.read(lambda connection: connection.execute(query).scalar_one())

    async def newest(self) -> list[StoredOrder]:
        """At most SHOWN_MAX, newest first, but before all others those that wait."""
        in_order = (~_UNDECIDED, ORDERS.c.created_ms.desc(), ORDERS.c.reference)
        query = select(ORDERS).order_by(*in_order).limit(SHOWN_MAX)
        return [_stored(row) for row in await self._database.read(lambda connection: connection.execute(query).all())]

    async def refuse(self, reference: str, refusal: str) -> None:
        """The enclave will never take it; what is in the log stays recorded."""
        change = update(ORDERS).where(ORDERS.c.reference == reference, _UNDECIDED).values(refusal=refusal)
        await self._database.write(lambda connection: connection.execute(change))


def add_order(connection: Connection, signed: Signed) -> StoredOrder:
    """As `Orders.add`, inside a transaction that does more."""
    reference = read_order(signed.payload).reference
    row = {"reference": reference, "payload": signed.payload, "signature": signed.signature, "created_ms": now_ms()}
    insert_missing(connection, ORDERS, [row])
    stored = _find(connection, reference)
    if stored.signed.payload != signed.payload:
        raise OrderConflictError(reference)
    return stored


def _find(connection: Connection, reference: str) -> StoredOrder:
    return _stored(connection.execute(select(ORDERS).where(ORDERS.c.reference == reference)).one())


def _stored(row: Row[Any]) -> StoredOrder:
    signed = Signed(row.payload, row.signature)
    return StoredOrder(read_order(row.payload), signed, row.created_ms, row.leaf_index, row.refusal)
