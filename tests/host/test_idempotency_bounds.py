"""Idempotency keys have a shape, a day to live and a share of the disk for each account."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update
from tests.host.keyed import ask
from tests.host.shape import check_shape
from tests.host.town import Town, request

from pinaivu_host.gateway import idempotency
from pinaivu_host.gateway.error_table import INVALID_REQUEST
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.idempotency_key import read_key
from pinaivu_host.store.database import Database
from pinaivu_host.store.idempotency import KEPT_MS, Holdings, KeptAnswer, KeyStore, KeyUse, place_of
from pinaivu_host.store.schema import IDEMPOTENCY_KEYS, METADATA
from pinaivu_shared.wire.link import OpenJob
from pinaivu_shared.wire.node import Delta

pytestmark = [pytest.mark.anyio, pytest.mark.every_database]


@pytest.mark.parametrize(
    "keys",
    [[""], ["x" * 256], ["é".encode("latin-1")], ["a\tb"], ["a", "a"]],
    ids=["empty", "long", "Latin-1", "tab", "two"],
)
async def test_what_is_no_key_is_400(town: Town, keys: list[str | bytes]) -> None:
    headers: list[tuple[str, Any]] = [("idempotency-key", key) for key in keys]
    answer = await town.client().post("/v1/chat/completions", json=request(), headers=headers)
    body = check_shape(answer, 400, "invalid_request_error", "invalid_request")
    assert body["error"]["param"] == "Idempotency-Key"
    assert not town.enclave.all_of(OpenJob)


async def test_the_longest_key_is_a_key(town: Town) -> None:
    await town.node()
    key = " ".join(["~" * 127, "!" * 127])
    first, second = await ask(town, key), await ask(town, key)
    assert (first.status_code, second.content) == (200, first.content)


@pytest.mark.parametrize(("limit", "value"), [("KEYS_MAX", 1), ("STORED_BYTES_MAX", 10)])
async def test_an_account_that_has_stored_its_share_gets_no_new_key(
    town: Town, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(idempotency, limit, value)
    await town.node()
    assert (await ask(town)).status_code == (await ask(town)).status_code == 200
    refused = await ask(town, "another")
    check_shape(refused, 429, "rate_limit_error", "too_many_idempotency_keys")
    assert 86_000 < int(refused.headers["retry-after"]) <= 86_400
    _, stranger = await town.account("stranger", credit=10**8)
    assert (await ask(town, "another", api_key=stranger)).status_code == 200


async def test_after_a_day_a_key_is_new_again(town: Town) -> None:
    await town.node()
    first = await ask(town)
    with town.host._database.engine.begin() as connection:
        begun_ms = IDEMPOTENCY_KEYS.c.begun_ms
        connection.execute(update(IDEMPOTENCY_KEYS).values(begun_ms=begun_ms - KEPT_MS))
    second = await ask(town, temperature=1)
    assert second.status_code == 200
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert (await ask(town, temperature=1)).content == second.content


async def test_answers_are_deleted_when_their_day_is_over(database_url: str) -> None:
    clock_ms = 1_000
    database = Database(database_url)
    store = KeyStore(database, now_ms=lambda: clock_ms)
    use = KeyUse(place_of("acct_1", "k"), b"d" * 32, "req_" + "0" * 26, b"s" * 32)
    answer = KeptAnswer(5, [Delta("req_" + "0" * 26, "secret")], [b"transcript"], None)
    assert await store.begin(use)
    assert await store.keep(use, answer)
    clock_ms += KEPT_MS - 1
    assert await store.forget_expired() == 0
    found = await store.find(use.place)
    assert found is not None
    assert (found.answer, found.record().transcripts) == (answer, [b"transcript"])
    assert (await store.holdings("acct_1")).keys == 1
    clock_ms += 1
    assert await store.find(use.place) is None
    assert await store.holdings("acct_1") == Holdings(0, 0, 0)
    assert await store.unsettled() == []
    assert await store.forget_expired() == 1
    assert not await store.keep(use, answer)
    database.close()


async def test_a_key_is_begun_by_one_job_only_and_given_away_only_by_name(database_url: str) -> None:
    database = Database(database_url)
    store = KeyStore(database)
    place = place_of("acct_1", "k")
    first, second = [KeyUse(place, b"d" * 32, "req_" + digit * 26, b"s" * 32) for digit in "01"]
    begun = await asyncio.gather(store.begin(first), store.begin(second))
    assert sorted(begun) == [False, True]
    winner, loser = (first, second) if begun[0] else (second, first)
    assert not await store.begin(loser, instead_of=loser.request_id)
    await store.forget(loser)
    assert await store.find(place) == winner
    assert await store.begin(loser, instead_of=winner.request_id)
    await store.forget(winner)
    assert await store.find(place) == loser
    assert await store.unsettled() == [loser]
    database.close()


async def test_the_key_itself_is_not_stored(town: Town) -> None:
    await town.node()
    await ask(town, "customer 4711")
    with town.host._database.engine.connect() as connection:
        stored = [connection.execute(select(table)).all() for table in METADATA.sorted_tables]
    assert "customer 4711" not in str(stored)


@given(st.lists(st.binary(max_size=300), max_size=3))
def test_any_header_is_a_key_or_no_key_or_400(values: list[bytes]) -> None:
    scope = {"headers": [(b"idempotency-key", value) for value in values]}
    key: str | ApiError | None
    try:
        key = read_key(scope)
    except ApiError as error:
        key = error
    match key:
        case None:
            assert values == []
        case str():
            assert [key.encode()] == values
        case ApiError():
            assert key.kind == INVALID_REQUEST
