"""What each API key was charged in a UTC month: a projection of receipts, kept as a sum so that a budget is cheap.

A receipt belongs to the month in which its request came.
"""

import functools
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Insert, bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from pinaivu_host.store.schema import KEY_CHARGES, RECEIPTS

Charges = dict[tuple[str, int], int]
"""Micro-USDC by key_id and the beginning of the month."""

_CHARGED: Final = KEY_CHARGES.c.charged_micro_usdc
_FIND: Final = select(_CHARGED).where(
    KEY_CHARGES.c.key_id == bindparam("key_id"), KEY_CHARGES.c.month_ms == bindparam("month_ms")
)


def month_start_ms(time_ms: int) -> int:
    """When the UTC month of this time began."""
    day = datetime.fromtimestamp(time_ms // 1000, UTC).replace(day=1, hour=0, minute=0, second=0)
    return int(day.timestamp()) * 1000


def next_month_ms(time_ms: int) -> int:
    """When the UTC month after this time's begins."""
    longest_month_ms = 31 * 86_400_000
    return month_start_ms(month_start_ms(time_ms) + longest_month_ms)


def charged_in(connection: Connection, key_id: str, month_ms: int) -> int:
    """What the receipts of a key come to in the month that began then."""
    return int(connection.execute(_FIND, {"key_id": key_id, "month_ms": month_ms}).scalar() or 0)


def sum_charges(rows: Iterable[Mapping[str, Any]]) -> Charges:
    """The sums of rows of RECEIPTS; those that name no key are in none."""
    charges: Charges = {}
    for row in rows:
        if row["key_id"] is not None and row["charge_micro_usdc"]:
            place = row["key_id"], month_start_ms(row["created_ms"])
            charges[place] = charges.get(place, 0) + row["charge_micro_usdc"]
    return charges


def add_charges(connection: Connection, charges: Charges) -> None:
    """Add to what is stored."""
    if not charges:
        return
    rows = [
        {"key_id": key_id, "month_ms": month_ms, "charged_micro_usdc": charged}
        for (key_id, month_ms), charged in sorted(charges.items())
    ]
    connection.execute(_add(connection.dialect.name), rows)


@functools.cache
def _add(dialect: str) -> Insert:
    """Made once: the journal executes it for every commit."""
    new = (postgresql if dialect == "postgresql" else sqlite).insert(KEY_CHARGES)
    added = {"charged_micro_usdc": _CHARGED + new.excluded.charged_micro_usdc}
    place = list(KEY_CHARGES.primary_key.columns)
    insert: Insert = new.on_conflict_do_update(index_elements=place, set_=added)
    return insert


def rebuild_charges(connection: Connection) -> None:
    """Make the table say what the receipts say, in the caller's transaction."""
    shown = select(RECEIPTS.c.key_id, RECEIPTS.c.created_ms, RECEIPTS.c.charge_micro_usdc)
    found = connection.execute(shown.where(RECEIPTS.c.key_id.is_not(None))).mappings()
    charges = sum_charges(found)  # type: ignore[arg-type]  # a RowMapping has names for keys
    connection.execute(delete(KEY_CHARGES))
    if charges:
        add_charges(connection, charges)
