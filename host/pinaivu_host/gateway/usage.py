"""`GET /v1/usage`: what the caller's account used, by UTC day, in the shape of OpenAI's organization usage, with money.

Sums of receipts and of nothing else: `GET /v1/receipts` lists what they are of.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from pinaivu_host.clock import now_ms
from pinaivu_host.gateway.authentication import authenticate
from pinaivu_host.gateway.http_answer import NO_STORE, response_start, send_json
from pinaivu_host.gateway.pricing import CURRENCY
from pinaivu_host.gateway.query import TIME_S_MAX, Query, check_later, wrong_parameter
from pinaivu_host.store.accounts import Accounts
from pinaivu_host.store.usage import GROUPINGS, DayUsage, Grouping, Usage
from pinaivu_shared.money import decimal_usdc

DAYS_DEFAULT: Final = 7
DAYS_MAX: Final = 31
PARAMETERS: Final = (
    "start_time",
    "end_time",
    "bucket_width",
    "group_by",
    "api_key_id",
    "limit",
    "page",
    "format",
)
NEXT_PAGE: Final = "x-pinaivu-next-page"
CSV_COLUMNS: Final = (
    "start_time",
    "end_time",
    "model",
    "api_key_id",
    "input_tokens",
    "output_tokens",
    "num_model_requests",
    "charge",
    "charge_micro_usdc",
)
_NAMED: Final[dict[str, Grouping]] = {**{one: one for one in GROUPINGS}, "key": "api_key_id"}
"""What a caller may write, and what it means: OpenAI says api_key_id."""
_DAY_S: Final = 86_400
_PAGE: Final = "page_"


@dataclass(frozen=True, slots=True)
class Period:
    """The seconds of one page, and where the next one begins: None for the last."""

    start_s: int
    end_s: int
    next_s: int | None


class UsageReport:
    """Seconds since 1970; the first and the last bucket of a period that cuts a day are of that part of it."""

    def __init__(self, usage: Usage, accounts: Accounts) -> None:
        self._usage, self._accounts = usage, accounts

    async def report(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """A page of buckets, as JSON or as CSV, which leaves out empty ones and has the next page in a header."""
        caller = await authenticate(scope, self._accounts)
        query = Query(scope, PARAMETERS, lists=("group_by",))
        query.choice("bucket_width", ("1d",))
        asked = query.choices("group_by", tuple(_NAMED))
        by: frozenset[Grouping] = frozenset(_NAMED[one] for one in asked)
        as_csv = query.choice("format", ("json", "csv")) == "csv"
        period = period_of(query, now_s=now_ms() // 1000)
        found = await self._usage.by_day(
            caller.account_id,
            start_ms=period.start_s * 1000,
            end_ms=period.end_s * 1000,
            by=by,
            key_id=query.key_id("api_key_id"),
        )
        request_id = scope["state"]["request_id"]
        if as_csv:
            await _send_csv(send, period, found, request_id=request_id)
        else:
            body = msgspec.json.encode(_page(period, found))
            await send_json(send, body, request_id=request_id, headers=(NO_STORE,))


def period_of(query: Query, *, now_s: int) -> Period:
    """What is asked for: by default the last `limit` days, today among them; ApiError where it is no period."""
    limit = query.number("limit", least=1, most=DAYS_MAX) or DAYS_DEFAULT
    start_s, end_s = query.time_s("start_time"), query.time_s("end_time")
    if end_s is None:
        end_s = _day_start_s(now_s) + _DAY_S
    page_s = _page_start_s(query.text("page"))
    if start_s is None:
        start_s = page_s if page_s is not None else max(0, _day_start_s(end_s - 1) - (limit - 1) * _DAY_S)
    check_later("start_time", start_s, "end_time", end_s)
    first_s = start_s if page_s is None else page_s
    if not start_s <= first_s < end_s:
        raise wrong_parameter("page", "is of another period")
    until_s = min(end_s, _day_start_s(first_s) + limit * _DAY_S)
    return Period(first_s, until_s, until_s if until_s < end_s else None)


def _page_start_s(page: str | None) -> int | None:
    if page is None:
        return None
    digits = page.removeprefix(_PAGE)
    if not page.startswith(_PAGE) or not (
        digits.isascii() and digits.isdecimal() and len(digits) <= len(str(TIME_S_MAX))
    ):
        raise wrong_parameter("page", "must be the `next_page` of a page")
    return int(digits)


def _day_start_s(time_s: int) -> int:
    return time_s // _DAY_S * _DAY_S


def _page(period: Period, found: Sequence[DayUsage]) -> dict[str, Any]:
    results: dict[int, list[dict[str, Any]]] = {}
    for usage in found:
        results.setdefault(usage.day, []).append(_result(usage))
    days = range(period.start_s // _DAY_S, (period.end_s - 1) // _DAY_S + 1)
    buckets = [{"object": "bucket", **_bounds(period, day), "results": results.get(day, [])} for day in days]
    next_page = _next_page(period)
    return {"object": "page", "data": buckets, "has_more": next_page is not None, "next_page": next_page}


def _result(usage: DayUsage) -> dict[str, Any]:
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "num_model_requests": usage.requests,
        "model": usage.model,
        "api_key_id": usage.key_id,
        "charge": decimal_usdc(usage.charge),
        "charge_micro_usdc": usage.charge,
        "currency": CURRENCY,
    }


def _bounds(period: Period, day: int) -> dict[str, int]:
    start_s, end_s = max(period.start_s, day * _DAY_S), min(period.end_s, (day + 1) * _DAY_S)
    return {"start_time": start_s, "end_time": end_s}


def _next_page(period: Period) -> str | None:
    return None if period.next_s is None else f"{_PAGE}{period.next_s}"


async def _send_csv(send: Send, period: Period, found: Sequence[DayUsage], *, request_id: str) -> None:
    written = io.StringIO()
    writer = csv.DictWriter(written, CSV_COLUMNS, extrasaction="ignore")  # RFC 4180
    writer.writeheader()
    writer.writerows({**_bounds(period, usage.day), **_result(usage)} for usage in found)
    body = written.getvalue().encode()
    next_page = _next_page(period)
    headers = (NO_STORE, *(() if next_page is None else ((NEXT_PAGE, next_page),)))
    kind = "text/csv; charset=utf-8"
    await send(response_start(200, kind, request_id=request_id, headers=headers, size_bytes=len(body)))
    await send({"type": "http.response.body", "body": body})
