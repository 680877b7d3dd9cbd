"""The receipts' table made anew from the leaves: it is a projection, and this is what that means. So are its sums.

Salts, and which key asked, are in no leaf. They stay where they were, and are gone with the table.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, delete, func, select, text, update

from pinaivu_host.store.database import insert_or_change
from pinaivu_host.store.engine import explained
from pinaivu_host.store.key_charges import rebuild_charges
from pinaivu_host.store.leaf_rows import rows_of
from pinaivu_host.store.log_check import CheckedLog, check_log
from pinaivu_host.store.revisions import take_turn
from pinaivu_host.store.schema import KEY_CHARGES, LEAVES, RECEIPTS
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.leaves import Leaf, parse_leaf
from pinaivu_shared.receipt import Receipt

BATCH_LEAVES: Final = 1000
_KEPT: Final = {"request_id", "salt", "key_id"}
_PROJECTED: Final = tuple(name for name in RECEIPTS.c.keys() if name not in _KEPT)  # noqa: SIM118 - columns


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How many receipts there are now, how many name no key, and what the log that has them came to."""

    receipts: int
    without_key: int
    log: CheckedLog


def rebuild_database(engine: Engine) -> Rebuilt:
    """Check the log and make the tables anew from it, in one transaction that a serving host waits for.

    VerificationError for a log that is not what its checkpoint says; then nothing is changed.
    """
    with explained(engine), engine.begin() as connection:
        take_turn(connection)
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"LOCK TABLE {RECEIPTS.name}, {KEY_CHARGES.name} IN EXCLUSIVE MODE"))
        log = check_log(connection)
        rebuild_receipts(connection)
        counts = select(func.count(), func.count(RECEIPTS.c.key_id)).select_from(RECEIPTS)
        receipts, with_key = connection.execute(counts).one()
    return Rebuilt(receipts, receipts - with_key, log)


def rebuild_receipts(connection: Connection) -> None:
    """Make the table say what the leaves say, in the caller's transaction; rows of no leaf go."""
    connection.execute(delete(RECEIPTS).where(RECEIPTS.c.leaf_index < 0))  # somebody's own: no leaf has such an index
    aside = -1 - RECEIPTS.c.leaf_index  # so that no row is in the way of another with its index
    connection.execute(update(RECEIPTS).values(leaf_index=aside))
    for batch in _batches(connection):
        if rows := [row for stored in batch for row in _rows(stored)]:
            insert_or_change(connection, RECEIPTS, rows, changed=_PROJECTED)
    connection.execute(delete(RECEIPTS).where(RECEIPTS.c.leaf_index < 0))
    rebuild_charges(connection)


def _batches(connection: Connection) -> Iterable[Any]:
    at = -1
    while batch := connection.execute(
        select(LEAVES).where(LEAVES.c.leaf_index > at).order_by(LEAVES.c.leaf_index).limit(BATCH_LEAVES)
    ).all():
        yield batch
        at = batch[-1].leaf_index


def _rows(stored: Row[tuple[object, ...]]) -> list[dict[str, Any]]:
    match _parsed(stored.leaf):
        case Receipt() as receipt:
            return [row for _, row in rows_of(receipt, stored.leaf_index, None)]
        case _:
            return []


def _parsed(raw: bytes) -> Leaf | None:
    """None for a kind of leaf that this version does not know, of which the journal has no row either."""
    try:
        return parse_leaf(raw)
    except VerificationError:
        return None
