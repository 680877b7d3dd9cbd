"""Limits of a key over HTTP: what its answers say, that every way to end a job gives back, and who asked what."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import SQLAlchemyError
from tests.host.fake_node import Gate, endless
from tests.host.shape import check_shape
from tests.host.town import ADMIN_KEY, Town, request

from pinaivu_host.store.api_keys import digest_of_key, key_id_of

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"


async def new_key(town: Town, **limits: int) -> str:
    path = f"/admin/v1/accounts/{town.account_id}/keys"
    made = await town.client(ADMIN_KEY).post(path, json={"name": "limited", **limits})
    assert made.status_code == 200, made.text
    key: str = made.json()["api_key"]
    return key


async def chat(town: Town, key: str, *, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    return await town.client(key).post(CHAT, json=request(**fields), headers=headers)


def limits_of(answer: httpx.Response) -> dict[str, str]:
    prefix = "x-ratelimit-"
    return {name.removeprefix(prefix): value for name, value in answer.headers.items() if name.startswith(prefix)}


@pytest.mark.parametrize("stream", [False, True])
async def test_every_answer_to_a_limited_key_says_what_is_left(town: Town, *, stream: bool) -> None:
    await town.node()
    key = await new_key(town, requests_per_minute=2, tokens_per_minute=10_000)
    first = await chat(town, key, stream=stream, max_tokens=100)
    assert first.status_code == 200
    found = limits_of(first)
    assert (found["limit-requests"], found["remaining-requests"], found["limit-tokens"]) == ("2", "1", "10000")
    assert 9_800 < int(found["remaining-tokens"]) < 9_900
    assert found["reset-requests"].endswith("s")
    failed = await chat(town, key, model="a/b:1", stream=stream)
    assert (failed.status_code, limits_of(failed)["remaining-requests"]) == (503, "0")
    refused = await chat(town, key)
    check_shape(refused, 429, "rate_limit_error", "rate_limit_exceeded")
    assert limits_of(refused)["remaining-requests"] == "0"
    assert limits_of(await town.chat()) == {}, "a key without limits has none to tell of"


async def test_answers_that_take_nothing_say_what_is_left_as_well(town: Town) -> None:
    await town.node()
    client = town.client(await new_key(town, requests_per_minute=5, tokens_per_minute=10_000))
    assert (await client.post(CHAT, json=request(max_tokens=100))).status_code == 200
    await town.host.market.limits.settled()
    answers = [
        (200, await client.get("/v1/models")),
        (200, await client.get("/v1/usage")),
        (404, await client.get("/v1/receipts/none")),
        (400, await client.get("/v1/usage?limit=x")),
        (422, await client.post(CHAT, json=request(n=0))),
        (400, await client.post(CHAT, json=request(stream_options={}))),
        (422, await client.post(CHAT, json=request(model="gpt-9"))),
        (415, await client.post(CHAT, content=b"", headers={"content-type": "text/html"})),
    ]
    for status, answer in answers:
        assert answer.status_code == status
        assert limits_of(answer)["remaining-requests"] == "4", answer.url
        assert len(answer.headers.get_list("x-ratelimit-limit-tokens")) == 1
    assert limits_of(await client.get("/v1/pricing")) == {}, "it looks at no key"


@pytest.mark.parametrize("limits", [{}, {"concurrent_requests": 3, "monthly_budget": 10**9}], ids=str)
async def test_keys_without_windows_cost_no_look_up(
    town: Town, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
) -> None:
    client = town.client(await new_key(town, **limits))
    monkeypatch.delattr("pinaivu_host.store.limits.LimitStore.levels")
    for answer in (await client.get("/v1/models"), await client.post(CHAT, json=request(n=0))):
        assert answer.status_code in {200, 422}
        assert limits_of(answer) == {}


async def test_an_answer_goes_out_where_its_limits_cannot_be_looked_up(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise SQLAlchemyError

    client = town.client(await new_key(town, requests_per_minute=5))
    monkeypatch.setattr("pinaivu_host.store.limits.LimitStore.levels", fail)
    answer = await client.get("/v1/models")
    assert (answer.status_code, limits_of(answer)) == (200, {})
    assert "what is left of a key's limits could not be looked up" in caplog.messages


async def test_what_was_used_is_counted_and_the_rest_comes_back(town: Town) -> None:
    await town.node()
    key = await new_key(town, tokens_per_minute=10_000)
    used = (await chat(town, key, max_tokens=5000)).json()["usage"]["total_tokens"]
    await town.host.market.limits.settled()
    caller = await town.host.accounts.holder(digest_of_key(key))
    assert caller is not None
    left = dict(await town.host.market.limits.headers(caller))["x-ratelimit-remaining-tokens"]
    assert int(left) == 10_000 - used


async def test_a_job_gives_its_place_back_however_it_ends(town: Town) -> None:
    key = await new_key(town, concurrent_requests=1)
    assert (await chat(town, key)).status_code == 503, "nobody offers the model"
    await town.host.market.limits.settled()
    gate = Gate()
    node = await town.node(gate.script)
    running = asyncio.create_task(chat(town, key))
    await gate.begun.wait()
    check_shape(await chat(town, key), 429, "rate_limit_error", "rate_limit_exceeded")
    gate.proceed.set()
    assert (await running).status_code == 200
    await town.host.market.limits.settled()
    await node.stop()
    await town.node(endless)
    async with town.client(key).stream("POST", CHAT, json=request(stream=True)) as answer:
        assert answer.status_code == 200
        await anext(answer.aiter_bytes())
    await town.host.market.jobs.ended(60)
    await town.host.market.limits.settled()
    async with town.client(key).stream("POST", CHAT, json=request(stream=True)) as answer:
        assert answer.status_code == 200


async def test_an_answer_given_again_counts_as_a_request_and_takes_no_tokens(town: Town) -> None:
    await town.node()
    key = await new_key(town, requests_per_minute=2, tokens_per_minute=10_000)
    once = {"idempotency-key": "one"}
    first = await chat(town, key, headers=once, max_tokens=100)
    await town.host.market.limits.settled()
    again = await chat(town, key, headers=once, max_tokens=100)
    assert (again.headers["idempotent-replayed"], again.content) == ("true", first.content)
    assert limits_of(again)["remaining-requests"] == "0"
    assert int(limits_of(again)["remaining-tokens"]) == 10_000 - first.json()["usage"]["total_tokens"]
    check_shape(await chat(town, key, headers=once, max_tokens=100), 429, "rate_limit_error", "rate_limit_exceeded")


@pytest.mark.parametrize("once", [{}, {"idempotency-key": "one"}], ids=["", "idempotent"])
async def test_a_receipt_has_the_key_that_asked(town: Town, once: dict[str, str]) -> None:
    await town.node()
    key = await new_key(town)
    request_id = (await chat(town, key, headers=once)).headers["x-request-id"]
    await town.chat()
    key_id = key_id_of(digest_of_key(key))
    client = town.client()
    listed = (await client.get("/v1/receipts", params={"api_key_id": key_id})).json()["data"]
    assert [one["request_id"] for one in listed] == [request_id]
    (bucket,) = (await client.get("/v1/usage", params={"group_by": "key", "limit": 1})).json()["data"]
    counted = {one["api_key_id"]: one["num_model_requests"] for one in bucket["results"]}
    assert counted == {key_id: 1, key_id_of(digest_of_key(town.key)): 1}


async def test_a_key_is_changed_within_a_second_and_keeps_what_is_not_named(town: Town) -> None:
    await town.node()
    key = await new_key(town, requests_per_minute=1, monthly_budget=10**9)
    path = f"/admin/v1/keys/{key_id_of(digest_of_key(key))}"
    assert (await chat(town, key)).status_code == 200
    admin = town.client(ADMIN_KEY)
    wanted = {"name": "other", "requests_per_minute": None, "tokens_per_minute": 5000, "models": ["m"]}
    changed = await admin.patch(path, json=wanted)
    assert changed.status_code == 200, changed.text
    shown = changed.json()
    assert {name: shown[name] for name in wanted} == wanted
    assert (shown["monthly_budget"], shown["concurrent_requests"], shown["permission"]) == (10**9, None, "full")
    town.host.accounts._cache.known[digest_of_key(key)].until -= 1.0  # as a second later
    assert (await chat(town, key)).status_code == 200
    for wrong in ({"requests_per_minute": 0}, {"permission": "full"}, {"name": None}, {"monthly_budget": 1.5}):
        assert (await admin.patch(path, json=wrong)).status_code == 422
    check_shape(await admin.patch("/admin/v1/keys/key_1", json={}), 404, "invalid_request_error", "not_found")
    check_shape(await town.client().patch(path, json={}), 401, "authentication_error", "invalid_api_key")
