"""Prices, usage and the list of receipts: what an account is shown of its money, all of it out of receipts."""

import csv
import datetime as dt
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Delete, Update, delete, event, select, update
from tests.enclave.market import ACCOUNT, MODEL, OTHER_MODEL, START_MS, Market, Node
from tests.host.shape import check_shape
from tests.host.town import CONFIGURATION, CREDIT, Town

from pinaivu_host.gateway.app import Gateway, route
from pinaivu_host.gateway.cors import Cors
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.pricing import Pricing
from pinaivu_host.gateway.query import Query
from pinaivu_host.gateway.receipt_list import ReceiptList
from pinaivu_host.gateway.usage import PARAMETERS as USAGE_PARAMETERS
from pinaivu_host.gateway.usage import UsageReport, period_of
from pinaivu_host.metrics import Metrics
from pinaivu_host.store.accounts import Accounts
from pinaivu_host.store.database import Database
from pinaivu_host.store.journal import Journal
from pinaivu_host.store.key_charges import month_start_ms
from pinaivu_host.store.leaf_rows import JobRecord
from pinaivu_host.store.rebuild import rebuild_receipts
from pinaivu_host.store.schema import KEY_CHARGES, RECEIPTS
from pinaivu_host.store.usage import Usage
from pinaivu_shared.ids import request_time_ms
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.receipt import Receipt

pytestmark = [pytest.mark.anyio, pytest.mark.every_database]
DAY_MS = 86_400_000
DAY_S = 86_400
FIRST_DAY_S = START_MS // DAY_MS * DAY_S
OTHER = "acct_" + "b" * 32
KEY_1, KEY_2 = "key_" + "1" * 16, "key_" + "2" * 16


class Office:
    """A gateway with nothing but these endpoints, over a database with a market's leaves."""

    def __init__(self, database_url: str) -> None:
        self.database = Database(database_url)
        self.journal = Journal(self.database)
        self.accounts = Accounts(self.database)
        usage = Usage(self.database)
        self.app = Gateway([
            route("/v1/usage", "GET", UsageReport(usage, self.accounts).report),
            route("/v1/receipts", "GET", ReceiptList(usage, self.accounts).list),
            route("/v1/pricing", "GET", Pricing(CONFIGURATION).list),
        ], Metrics(()), Cors())  # fmt: skip
        self.market = Market()
        self.node = Node(self.market, "a").register().quote()

    async def open(self) -> "Office":
        await self.journal.start()
        self.client = await self.client_of(ACCOUNT)
        self.other = await self.client_of(OTHER)
        return self

    async def client_of(self, account_id: str) -> httpx.AsyncClient:
        key = await self.accounts.create(name="ann", account_id=account_id)
        headers = {"authorization": f"Bearer {key}"}
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://host/v1", headers=headers)

    def serve(self, *, key_id: str | None = None, **changes: Any) -> Receipt:
        """One job, asked by this key, a second after the one before."""
        self.market.now_ms += 1000
        self.node.quote()
        awarded = self.market.open_job(**changes)
        self.journal.records[awarded.request_id] = JobRecord(b"s" * 32, [awarded.transcript], key_id=key_id)
        return self.market.settle(awarded, self.node)

    def days_pass(self, days: int) -> None:
        self.market.now_ms += days * DAY_MS

    async def take(self) -> None:
        """Store what the market wrote so far."""
        for index in range(self.journal.size, len(self.market.leaves)):
            self.journal.append(index, self.market.leaves[index])
        await self.journal.flush()

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def change(self, change: Update | Delete) -> None:
        await self.database.write(lambda connection: connection.execute(change))

    async def rows(self) -> list[dict[str, Any]]:
        query = select(RECEIPTS).order_by(RECEIPTS.c.leaf_index)
        return [row._asdict() for row in await self.database.read(lambda found: found.execute(query).all())]


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    found = await Office(database_url).open()
    yield found
    await found.client.aclose()
    await found.other.aclose()
    await found.journal.close()
    found.database.close()


def sums(receipts: list[Receipt]) -> tuple[int, int, int, int]:
    """Input tokens, output tokens, requests, charge in micro-USDC."""
    return (
        sum(one.prompt_tokens for one in receipts),
        sum(one.completion_tokens for one in receipts),
        len(receipts),
        sum(parse_usdc(one.charge_amount) for one in receipts),
    )


def told(result: dict[str, Any]) -> tuple[int, int, int, int]:
    assert parse_usdc(result["charge"]) == result["charge_micro_usdc"]
    names = ("input_tokens", "output_tokens", "num_model_requests", "charge_micro_usdc")
    return tuple(result[name] for name in names)


async def test_usage_is_the_sum_of_the_receipts_by_day_and_model(office: Office) -> None:
    first = [office.serve(), office.serve()]
    office.days_pass(2)
    second = [office.serve()]
    await office.take()
    shown = await office.get("/usage", start_time=FIRST_DAY_S, end_time=FIRST_DAY_S + 3 * DAY_S, group_by="model")
    assert [one["start_time"] for one in shown["data"]] == [FIRST_DAY_S + day * DAY_S for day in range(3)]
    assert all(one["end_time"] == one["start_time"] + DAY_S for one in shown["data"])
    results = [one["results"] for one in shown["data"]]
    assert [len(one) for one in results] == [1, 0, 1]
    assert (told(results[0][0]), told(results[2][0])) == (sums(first), sums(second))
    assert {one["model"] for one in (results[0][0], results[2][0])} == {MODEL}
    assert (shown["object"], shown["has_more"], shown["next_page"]) == ("page", False, None)
    assert sums(first)[3] > 0


async def test_models_are_told_apart_only_where_that_is_asked_for(office: Office) -> None:
    for quoted, model in ((20_000, MODEL), (20_000, OTHER_MODEL)):
        office.market.now_ms += 1000
        office.node.quote(quoted, model=model)
        office.market.settle(office.market.open_job(model=model), office.node)
    await office.take()
    period = {"start_time": FIRST_DAY_S, "end_time": FIRST_DAY_S + DAY_S}
    apart = (await office.get("/usage", **period, **{"group_by[]": "model"}))["data"][0]["results"]
    (together,) = (await office.get("/usage", **period))["data"][0]["results"]
    assert [one["model"] for one in apart] == sorted([MODEL, OTHER_MODEL])
    assert together["model"] is None
    assert told(together) == sums(office.market.receipts())
    assert [told(one)[2] for one in apart] == [1, 1]


async def test_usage_and_receipts_are_told_apart_by_the_key_that_asked(office: Office) -> None:
    unknown, first, *second = [office.serve(key_id=key_id) for key_id in (None, KEY_1, KEY_2, KEY_2)]
    await office.take()
    period = {"start_time": FIRST_DAY_S, "end_time": FIRST_DAY_S + DAY_S}
    for grouping, model in (("key", None), ("api_key_id", None), (["api_key_id", "model"], MODEL)):
        (bucket,) = (await office.get("/usage", **period, **{"group_by[]": grouping}))["data"]
        found = {one["api_key_id"]: told(one) for one in bucket["results"]}
        assert found == {None: sums([unknown]), KEY_1: sums([first]), KEY_2: sums(second)}
        assert {one["model"] for one in bucket["results"]} == {model}
    (bucket,) = (await office.get("/usage", **period, api_key_id=KEY_2))["data"]
    assert [told(one) for one in bucket["results"]] == [sums(second)]
    answer = await office.client.get("/usage", params={**period, "group_by": "key", "format": "csv"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {row["api_key_id"]: row["num_model_requests"] for row in rows} == {"": "1", KEY_1: "1", KEY_2: "2"}
    listed = (await office.get("/receipts", api_key_id=KEY_2))["data"]
    assert [one["request_id"] for one in listed] == [one.request_id for one in reversed(second)]


async def test_the_charges_of_a_key_are_summed_beside_its_receipts_and_made_again_from_them(office: Office) -> None:
    receipts = [office.serve(key_id=key_id) for key_id in (KEY_1, None, KEY_1)]
    await office.take()
    office.days_pass(62)
    receipts.append(office.serve(key_id=KEY_1))
    await office.take()
    charges = [parse_usdc(one.charge_amount) for one in receipts]
    expected = {
        (KEY_1, month_start_ms(request_time_ms(receipts[0].request_id)), charges[0] + charges[2]),
        (KEY_1, month_start_ms(request_time_ms(receipts[3].request_id)), charges[3]),
    }
    query = select(KEY_CHARGES)
    for change in (None, update(KEY_CHARGES).values(charged_micro_usdc=1), delete(KEY_CHARGES)):
        if change is not None:
            await office.change(change)
            await office.database.write(rebuild_receipts)
        stored = await office.database.read(lambda found: found.execute(query).all())
        assert {tuple(row) for row in stored} == expected


async def test_a_period_counts_from_its_first_second_to_before_its_end(office: Office) -> None:
    receipts = [office.serve(), office.serve(), office.serve()]
    await office.take()
    second = START_MS // 1000 + 2
    (bucket,) = (await office.get("/usage", start_time=second, end_time=second + 1))["data"]
    assert (bucket["start_time"], bucket["end_time"]) == (second, second + 1)
    assert told(bucket["results"][0]) == sums(receipts[1:2])


async def test_pages_of_usage_come_to_the_whole(office: Office) -> None:
    for _ in range(5):
        office.serve()
        office.days_pass(1)
    await office.take()
    asked: dict[str, Any] = {"start_time": FIRST_DAY_S + 7, "end_time": FIRST_DAY_S + 5 * DAY_S + 9, "limit": 2}
    buckets = []
    while True:
        page = await office.get("/usage", **asked)
        buckets += page["data"]
        if not page["has_more"]:
            break
        asked["page"] = page["next_page"]
    assert [len(buckets), buckets[0]["start_time"], buckets[-1]["end_time"]] == [
        6,
        asked["start_time"],
        asked["end_time"],
    ]
    assert [one["end_time"] for one in buckets[:-1]] == [one["start_time"] for one in buckets[1:]]
    found = [told(result) for one in buckets for result in one["results"]]
    assert tuple(map(sum, zip(*found, strict=True))) == sums(office.market.receipts())


async def test_without_a_period_it_is_the_last_week_with_today(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.serve()
    office.days_pass(6)
    office.serve()
    await office.take()
    monkeypatch.setattr("pinaivu_host.gateway.usage.now_ms", lambda: office.market.now_ms)
    week = await office.get("/usage")
    assert [len(one["results"]) for one in week["data"]] == [1, 0, 0, 0, 0, 0, 1]
    assert not week["has_more"]
    (today,) = (await office.get("/usage", limit=1))["data"]
    assert today == week["data"][-1]


async def test_usage_as_csv_has_the_same_numbers_and_names_the_next_page(office: Office) -> None:
    receipts = [office.serve()]
    await office.take()
    asked: dict[str, Any] = {"start_time": FIRST_DAY_S, "end_time": FIRST_DAY_S + 2 * DAY_S, "limit": 1}
    asked["group_by"] = "model"
    answer = await office.client.get("/usage", params={**asked, "format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    page = await office.get("/usage", **asked)
    assert answer.headers["x-pinaivu-next-page"] == page["next_page"]
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert row["charge"] == page["data"][0]["results"][0]["charge"]
    assert int(row["charge_micro_usdc"]) == sums(receipts)[3]
    assert (row["model"], int(row["start_time"])) == (MODEL, FIRST_DAY_S)
    last = await office.client.get("/usage", params={**asked, "format": "csv", "page": page["next_page"]})
    assert "x-pinaivu-next-page" not in last.headers
    assert list(csv.DictReader(io.StringIO(last.text))) == []


async def test_receipts_are_listed_newest_first_as_they_were_signed(office: Office) -> None:
    receipts = [office.serve() for _ in range(3)]
    await office.take()
    answer = await office.client.get("/receipts", params={"limit": 2})
    shown = answer.json()
    assert [one["request_id"] for one in shown["data"]] == [one.request_id for one in reversed(receipts[1:])]
    leaf = next(leaf for leaf in office.market.leaves if receipts[2].request_id.encode() in leaf)
    assert leaf in answer.content
    assert shown["has_more"]
    rest = await office.get("/receipts", limit=2, after=shown["last_id"])
    assert [one["request_id"] for one in rest["data"]] == [receipts[0].request_id]
    assert not rest["has_more"]


async def test_paging_loses_no_receipt_of_one_millisecond(office: Office) -> None:
    ids = {office.market.settle(office.market.open_job(), office.node).request_id for _ in range(5)}
    await office.take()
    seen: list[str] = []
    after: dict[str, str] = {}
    while (page := await office.get("/receipts", limit=1, **after))["data"]:
        seen.append(page["last_id"])
        after = {"after": page["last_id"]}
    assert seen == sorted(ids, reverse=True)
    assert page == {"object": "list", "data": [], "has_more": False, "last_id": None}


async def test_receipts_are_filtered(office: Office) -> None:
    first, second = office.serve(), office.serve()
    await office.take()
    second_s = START_MS // 1000 + 2
    for params, expected in (
        ({"since": second_s}, [second]),
        ({"until": second_s}, [first]),
        ({"since": second_s, "until": second_s}, []),
        ({"model": MODEL}, [second, first]),
        ({"model": "nobody/has:it"}, []),
        ({"outcome": "completed"}, [second, first]),
        ({"outcome": "failed"}, []),
    ):
        shown = await office.get("/receipts", **params)
        assert [one["request_id"] for one in shown["data"]] == [one.request_id for one in expected], params


async def test_another_account_sees_nothing_of_it(office: Office) -> None:
    receipt = office.serve()
    await office.take()
    assert (await office.other.get("/receipts")).json()["data"] == []
    older = (await office.other.get("/receipts", params={"after": receipt.request_id})).json()
    assert older["data"] == []
    period = {"start_time": FIRST_DAY_S, "end_time": FIRST_DAY_S + DAY_S}
    assert [one["results"] for one in (await office.other.get("/usage", params=period)).json()["data"]] == [[]]


@pytest.mark.parametrize("path", ["/usage", "/receipts"])
async def test_without_a_key_there_is_no_billing(office: Office, path: str) -> None:
    answer = await office.client.get(path, headers={"authorization": ""})
    check_shape(answer, 401, "authentication_error", "missing_api_key")


@pytest.mark.parametrize(
    "query",
    ["start_time=x", "start_time=-1", "start_time=999999999999", "end_time=0", "end_time=%C2%B2", "group_by=node",
     "api_key_id=key_1", "bucket_width=1h", "limit=0", "limit=32", "limit=1&limit=2", "group_by=model&group_by[]=model",
     "format=xml", "page=7", "page=page_", "page=page_x", "page=page_1&start_time=2"],
)  # fmt: skip
async def test_usage_that_makes_no_sense_is_refused(office: Office, query: str) -> None:
    body = check_shape(await office.client.get(f"/usage?{query}"), 400, "invalid_request_error", "invalid_request")
    assert body["error"]["param"] == query.partition("=")[0]


async def test_a_period_that_ends_before_it_begins_is_refused(office: Office) -> None:
    answer = await office.client.get("/usage?start_time=5&end_time=5")
    assert check_shape(answer, 400, "invalid_request_error", "invalid_request")["error"]["param"] == "end_time"


@pytest.mark.parametrize(
    "query",
    [
        "limit=101",
        "limit=0",
        "after=x",
        "after=req_1",
        "outcome=good",
        "model=%00",
        "model=",
        "since=x",
        "until=-1",
        "api_key_id=x",
    ],
)
async def test_a_list_that_makes_no_sense_is_refused(office: Office, query: str) -> None:
    body = check_shape(await office.client.get(f"/receipts?{query}"), 400, "invalid_request_error", "invalid_request")
    assert body["error"]["param"] == query.partition("=")[0]


@pytest.mark.parametrize("path", ["/usage?api_key_ids=1", "/receipts?nodes=1"])
async def test_a_parameter_that_would_be_ignored_is_refused(office: Office, path: str) -> None:
    answer = await office.client.get(path)
    check_shape(answer, 400, "invalid_request_error", "unsupported_parameter")


@given(raw=st.one_of(st.binary(max_size=60), st.text(alphabet="=&[]%0page_9strlimend", max_size=60).map(str.encode)))
def test_any_query_is_a_period_or_an_error_of_the_caller(raw: bytes) -> None:
    scope = {"type": "http", "query_string": raw}
    try:
        period = period_of(Query(scope, USAGE_PARAMETERS), now_s=FIRST_DAY_S)
    except ApiError:
        return
    assert 0 <= period.start_s < period.end_s <= period.start_s + 31 * DAY_S
    assert period.next_s in {None, period.end_s}


async def test_usage_is_the_same_once_its_table_was_dropped_and_made_from_the_leaves(office: Office) -> None:
    for _ in range(3):
        office.serve()
        office.days_pass(1)
    await office.take()
    period = {"start_time": FIRST_DAY_S, "end_time": FIRST_DAY_S + 4 * DAY_S, "group_by": "model"}
    before = (await office.rows(), await office.get("/usage", **period), await office.get("/receipts"))
    RECEIPTS.drop(office.database.engine)
    RECEIPTS.create(office.database.engine)
    assert await office.rows() == []
    await office.database.write(rebuild_receipts)
    after = (await office.rows(), await office.get("/usage", **period), await office.get("/receipts"))
    assert after[1:] == before[1:]
    assert len(before[0]) == 3
    gone = {"salt": None, "key_id": None}
    assert after[0] == [row | gone for row in before[0]], "a salt is in no leaf, nor which key asked"


async def test_rebuilding_sets_right_what_was_wrong_and_keeps_the_salts(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinaivu_host.store.rebuild.BATCH_LEAVES", 2)
    receipts = [office.serve() for _ in range(3)]
    await office.take()
    before = await office.rows()
    first, second, third = (RECEIPTS.c.request_id == one.request_id for one in receipts)
    invented = {**before[0], "request_id": "req_invented", "leaf_index": 10_000}
    changes = (
        update(RECEIPTS).where(first).values(charge_micro_usdc=1, account_id=OTHER, leaf_index=20_000),
        update(RECEIPTS).where(second).values(leaf_index=before[0]["leaf_index"]),
        delete(RECEIPTS).where(third),
        RECEIPTS.insert().values(invented),
    )
    await office.database.write(lambda connection: [connection.execute(change).rowcount for change in changes])
    await office.database.write(rebuild_receipts)
    assert await office.rows() == [*before[:2], before[2] | {"salt": None, "key_id": None}]
    assert before[0]["salt"] == b"s" * 32


@pytest.mark.parametrize(
    "path",
    [
        "/usage",
        "/usage?group_by=model",
        "/usage?group_by=model&group_by=key",
        f"/usage?api_key_id={KEY_1}",
        f"/receipts?api_key_id={KEY_1}",
        "/receipts",
        f"/receipts?model=m&outcome=failed&since=1&until=9&after={'req_' + '0' * 26}",
    ],
)
async def test_sums_and_lists_look_at_the_index_of_one_account_only(office: Office, path: str) -> None:
    """However many receipts there are, and whoever asks for what there is none of."""
    asked: list[tuple[str, Any]] = []
    event.listen(
        office.database.engine, "before_cursor_execute", lambda _c, _k, query, given, *_: asked.append((query, given))
    )
    await office.get(path)
    query, given = next(one for one in asked if "FROM receipts" in one[0])
    plan = await office.database.read(lambda found: found.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", given).all())
    details = [row.detail for row in plan]
    assert details[0].startswith("SEARCH receipts USING COVERING INDEX receipts_of_account (account_id=?")
    assert path.startswith("/usage") or len(details) == 2, "it is in order, and each leaf is looked up"


async def test_prices_are_shown_without_a_key_and_beside_each_model(town: Town) -> None:
    await town.node(models=("m", "a/b:1"))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{town.port}", trust_env=False) as stranger:
        listed = (await stranger.get("/v1/pricing")).json()
    assert (listed["currency"], listed["fee_bps"]) == ("USDC", CONFIGURATION.fee_bps)
    prices = {one["id"]: one["pricing"] for one in listed["data"]}
    assert list(prices) == ["a/b:1", "m"]
    assert prices["m"] == {
        "currency": "USDC",
        "input_per_million_tokens": "0.020000",
        "output_per_million_tokens": "0.060000",
        "fee_bps": 1000,
        "kind": "list_price",
    }
    models = (await town.client().get("/v1/models")).json()["data"]
    assert {one["id"]: one["pricing"] for one in models} == prices
    assert (await town.client().get("/v1/models/m")).json()["pricing"] == prices["m"]


async def test_what_usage_says_was_charged_is_what_the_credit_lacks(town: Town) -> None:
    await town.node()
    for _ in range(3):
        await town.chat()
    today = dt.datetime.now(dt.UTC).timestamp()
    shown = (await town.client().get("/v1/usage", params={"start_time": int(today) - 2 * DAY_S})).json()
    found = [told(result) for bucket in shown["data"] for result in bucket["results"]]
    account = await town.host.accounts.account(town.account_id)
    assert account is not None
    assert sum(one[3] for one in found) == CREDIT - account.credit > 0
    assert sum(one[2] for one in found) == len((await town.client().get("/v1/receipts")).json()["data"]) == 3
