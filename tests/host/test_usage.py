"""Usage: what an account is shown of its money, all of it out of receipts."""

import csv
import datetime as dt
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.enclave.market import MODEL, OTHER_MODEL, START_MS
from tests.host.office import DAY_S, FIRST_DAY_S, KEY_1, KEY_2, Office, sums, told
from tests.host.shape import check_shape
from tests.host.town import CREDIT, Town

from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.query import Query
from pinaivu_host.gateway.usage import PARAMETERS as USAGE_PARAMETERS
from pinaivu_host.gateway.usage import period_of

pytestmark = [pytest.mark.anyio, pytest.mark.every_database]


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


@given(raw=st.one_of(st.binary(max_size=60), st.text(alphabet="=&[]%0page_9strlimend", max_size=60).map(str.encode)))
def test_any_query_is_a_period_or_an_error_of_the_caller(raw: bytes) -> None:
    scope = {"type": "http", "query_string": raw}
    try:
        period = period_of(Query(scope, USAGE_PARAMETERS), now_s=FIRST_DAY_S)
    except ApiError:
        return
    assert 0 <= period.start_s < period.end_s <= period.start_s + 31 * DAY_S
    assert period.next_s in {None, period.end_s}


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
