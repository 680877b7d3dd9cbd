"""The list of receipts, and what it has in common with usage: whose it is, and that no other account is looked at."""

import re
from typing import Any

import pytest
from sqlalchemy import event
from tests.enclave.market import MODEL, START_MS
from tests.host.office import DAY_S, FIRST_DAY_S, KEY_1, Office
from tests.host.query_plan import plan_of
from tests.host.shape import check_shape

pytestmark = [pytest.mark.anyio, pytest.mark.every_database]


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
        "until=0&since=1",
        "until=1&since=1",
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


INDEX_ALONE = (
    r"SEARCH receipts USING COVERING INDEX receipts_of_account \(account_id="
    r"|Index Only Scan (Backward )?using receipts_of_account on receipts\n +Index Cond: \(+account_id ="
)


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
    plan = "\n".join(await office.database.read(lambda found: plan_of(found, query, given)))
    assert re.search(INDEX_ALONE, plan), plan
    assert path.startswith("/usage") or not re.search("Sort|TEMP B-TREE", plan), "the index is in order"


@pytest.mark.parametrize("query", ["/receipts?since=1792000000000", "/usage?start_time=1792000000000"])
async def test_a_time_in_milliseconds_is_refused_with_the_unit(office: Office, query: str) -> None:
    body = check_shape(await office.client.get(query), 400, "invalid_request_error", "invalid_request")
    assert "must be seconds since 1970, a whole number from 0 to 281474976710" in body["error"]["message"]
