"""What an account used: its receipts, summed by day or one by one. Nothing is counted but what a receipt says.

A receipt belongs to the time at which its request came, which is in the request's id. Amounts are micro-USDC.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from sqlalchemy import ColumnElement, and_, func, or_, select

from pinaivu_host.store.database import Database
from pinaivu_host.store.schema import LEAVES, RECEIPTS
from pinaivu_shared.ids import request_time_ms

DAY_MS: Final = 86_400_000
Grouping = Literal["model", "api_key_id"]
GROUPINGS: Final[tuple[Grouping, ...]] = get_args(Grouping)
_GROUPS: Final = {"model": RECEIPTS.c.model, "api_key_id": RECEIPTS.c.key_id}


@dataclass(frozen=True, slots=True)
class DayUsage:
    """What the receipts of one day come to. `day` counts UTC days since 1970.

    `model` and `key_id` are None where all of them are summed; `key_id` also where it is not known which key asked.
    """

    day: int
    model: str | None
    key_id: str | None
    prompt_tokens: int
    completion_tokens: int
    requests: int
    charge: int


@dataclass(frozen=True, slots=True)
class ReceiptFilter:
    """Which receipts; None leaves that open. Times are milliseconds, `until_ms` is not in it any more.

    `after` is the request id of the receipt after which the list goes on, to older ones; it need not be there.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    model: str | None = None
    key_id: str | None = None
    outcome: str | None = None
    after: str | None = None


class Usage:
    """Accounts by id; each query looks at receipts of one account only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_day(
        self,
        account_id: str,
        *,
        start_ms: int,
        end_ms: int,
        by: Collection[Grouping] = (),
        key_id: str | None = None,
    ) -> list[DayUsage]:
        """Sums of the receipts from `start_ms` to before `end_ms`, by day and more; no row where there are none.

        With a `key_id` only of what that key asked.
        """
        day = (RECEIPTS.c.created_ms // DAY_MS).label("day")
        groups = (day, *(_GROUPS[one] for one in GROUPINGS if one in by))
        wanted = () if key_id is None else (RECEIPTS.c.key_id == key_id,)
        query = (
            select(
                *groups,
                func.sum(RECEIPTS.c.prompt_tokens).label("prompt_tokens"),
                func.sum(RECEIPTS.c.completion_tokens).label("completion_tokens"),
                func.count().label("requests"),
                func.sum(RECEIPTS.c.charge_micro_usdc).label("charge"),
            )
            .where(_of(account_id), RECEIPTS.c.created_ms >= start_ms, RECEIPTS.c.created_ms < end_ms, *wanted)
            .group_by(*groups)
            .order_by(*groups)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [_day_usage(row, by) for row in rows]

    async def receipts(self, account_id: str, wanted: ReceiptFilter, *, limit: int) -> Sequence[bytes]:
        """The exact bytes of the account's receipts, newest first."""
        query = (
            select(LEAVES.c.leaf)
            .join_from(RECEIPTS, LEAVES, RECEIPTS.c.leaf_index == LEAVES.c.leaf_index)
            .where(_of(account_id), *_conditions(wanted))
            .order_by(RECEIPTS.c.created_ms.desc(), RECEIPTS.c.request_id.desc())
            .limit(limit)
        )
        return await self._database.read(lambda connection: connection.execute(query).scalars().all())


def _day_usage(row: Any, by: Collection[Grouping]) -> DayUsage:  # noqa: ANN401 - a row of the query above
    return DayUsage(
        day=row.day,
        model=row.model if "model" in by else None,
        key_id=row.key_id if "api_key_id" in by else None,
        prompt_tokens=int(row.prompt_tokens),  # PostgreSQL sums big integers to decimals
        completion_tokens=int(row.completion_tokens),
        requests=row.requests,
        charge=int(row.charge),
    )


def _of(account_id: str) -> ColumnElement[bool]:
    return RECEIPTS.c.account_id == account_id


def _conditions(wanted: ReceiptFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.since_ms is not None:
        conditions.append(RECEIPTS.c.created_ms >= wanted.since_ms)
    if wanted.until_ms is not None:
        conditions.append(RECEIPTS.c.created_ms < wanted.until_ms)
    if wanted.model is not None:
        conditions.append(RECEIPTS.c.model == wanted.model)
    if wanted.key_id is not None:
        conditions.append(RECEIPTS.c.key_id == wanted.key_id)
    if wanted.outcome is not None:
        conditions.append(RECEIPTS.c.outcome == wanted.outcome)
    if wanted.after is not None:
        conditions.append(_older_than(wanted.after))
    return conditions


def _older_than(request_id: str) -> ColumnElement[bool]:
    """The first condition bounds the search in the index, the second breaks the tie within one millisecond."""
    time_ms = request_time_ms(request_id)
    same_time = RECEIPTS.c.request_id < request_id
    return and_(RECEIPTS.c.created_ms <= time_ms, or_(RECEIPTS.c.created_ms < time_ms, same_time))
