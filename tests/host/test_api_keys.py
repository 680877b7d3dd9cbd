"""API keys: who may do what with which, until when, and that no key is ever written anywhere."""

import logging
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update
from tests.host.shape import check_shape
from tests.host.town import ADMIN_KEY, Town, request

from pinaivu_host.clock import now_ms
from pinaivu_host.store.api_keys import USE_EVERY_MS, ApiKeys, KeyTerms, digest_of_key, key_id_of
from pinaivu_host.store.schema import API_KEYS

pytestmark = [pytest.mark.anyio, pytest.mark.every_database]
PATH = "/v1/chat/completions"
DAY_MS = 86_400_000
NOBODY = "acct_" + "0" * 32


async def make_key(town: Town, account_id: str = "", **wanted: Any) -> httpx.Response:
    path = f"/admin/v1/accounts/{account_id or town.account_id}/keys"
    return await town.client(ADMIN_KEY).post(path, json={"name": "laptop"} | wanted)


async def new_key(town: Town, **wanted: Any) -> str:
    made = await make_key(town, **wanted)
    assert made.status_code == 200, made.text
    key: str = made.json()["api_key"]
    return key


async def shown_key(town: Town, api_key: str) -> dict[str, Any]:
    listed = (await town.client(ADMIN_KEY).get(f"/admin/v1/accounts/{town.account_id}/keys")).json()
    (found,) = [one for one in listed["data"] if one["key_id"] == key_id_of(digest_of_key(api_key))]
    shown: dict[str, Any] = found
    return shown


async def expire(town: Town, api_key: str, expires_ms: int) -> None:
    """As if the time had come."""
    change = update(API_KEYS).where(API_KEYS.c.key_sha256 == digest_of_key(api_key)).values(expires_ms=expires_ms)
    await town.host._database.write(lambda connection: connection.execute(change))


@pytest.mark.parametrize(
    ("terms", "model", "code"),
    [
        ({}, "m", None),
        ({"permission": "full", "models": None, "expires_in_days": 1}, "m", None),
        ({"models": ["m", "other"]}, "m", None),
        ({"models": ["other"]}, "m", "model_not_allowed"),
        ({"models": ["M"]}, "m", "model_not_allowed"),
        ({"models": ["m"]}, "no such model", "model_not_allowed"),
        ({"permission": "read_only"}, "m", "permission_denied"),
        ({"permission": "read_only", "models": ["m"]}, "m", "permission_denied"),
    ],
    ids=str,
)
@pytest.mark.parametrize("keyed", [{}, {"idempotency-key": "one"}], ids=["", "idempotent"])
async def test_a_key_asks_what_its_terms_allow(
    town: Town, terms: dict[str, Any], model: str, code: str | None, keyed: dict[str, str]
) -> None:
    await town.node()
    client = town.client(await new_key(town, **terms))
    answer = await client.post(PATH, json=request(model=model), headers=keyed)
    if code is None:
        assert answer.status_code == 200, answer.text
    else:
        body = check_shape(answer, 403, "permission_error", code)
        assert body["error"]["param"] == ("model" if code == "model_not_allowed" else None)
    assert (await client.get("/v1/models")).status_code == 200, "any key may look"


async def test_a_kept_answer_is_not_repeated_to_a_key_that_could_not_have_asked(town: Town) -> None:
    await town.node()
    again = {"idempotency-key": "one"}
    assert (await town.client().post(PATH, json=request(), headers=again)).status_code == 200
    for terms, code in (({"permission": "read_only"}, "permission_denied"), ({"models": ["x"]}, "model_not_allowed")):
        answer = await town.client(await new_key(town, **terms)).post(PATH, json=request(), headers=again)
        check_shape(answer, 403, "permission_error", code)


async def test_a_read_only_key_sees_the_receipts_of_its_account(town: Town) -> None:
    await town.node()
    request_id = (await town.chat()).headers["x-request-id"]
    reader = town.client(await new_key(town, permission="read_only"))
    for path in (f"/v1/receipts/{request_id}", f"/v1/receipts/{request_id}/bundle", "/v1/models/m"):
        assert (await reader.get(path)).status_code == 200


async def test_an_expired_key_is_401_at_once_and_says_so(town: Town) -> None:
    key = await new_key(town, expires_in_days=1)
    assert (await town.client(key).get("/v1/models")).status_code == 200
    await expire(town, key, now_ms())
    town.host.accounts._cache.known.clear()
    for answer in (await town.client(key).get("/v1/models"), await town.client(key).post(PATH, json=request())):
        body = check_shape(answer, 401, "authentication_error", "invalid_api_key")
        assert "expired" in body["error"]["message"]
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_cached_look_up_knows_when_the_key_expires(town: Town) -> None:
    key = await new_key(town)
    await expire(town, key, expires_ms := now_ms() + DAY_MS)
    caller = await town.host.accounts.holder(digest_of_key(key))
    assert caller is not None
    assert caller.terms.expires_ms == expires_ms


async def test_a_revoked_key_stops_and_the_others_of_its_account_do_not(town: Town) -> None:
    first, second = await new_key(town), await new_key(town)
    assert (await town.revoke(first)).json()["revoked_ms"] <= now_ms()
    check_shape(await town.client(first).get("/v1/models"), 403, "permission_error", "key_disabled")
    assert (await town.client(second).get("/v1/models")).status_code == 200
    assert (await town.client().get("/v1/models")).status_code == 200


async def test_a_key_that_was_in_use_stops_within_a_second_of_its_revocation(town: Town) -> None:
    key = await new_key(town)
    client = town.client(key)
    assert (await client.get("/v1/models")).status_code == 200
    await town.revoke(key)
    town.host.accounts._cache.known[digest_of_key(key)].until -= 1.0  # as a second later
    check_shape(await client.get("/v1/models"), 403, "permission_error", "key_disabled")


async def test_revoking_twice_changes_nothing(town: Town) -> None:
    key = await new_key(town)
    first, second = await town.revoke(key), await town.revoke(key)
    assert (first.status_code, first.json()) == (200, second.json())


async def test_what_is_shown_of_a_key_is_not_the_key(town: Town) -> None:
    before_ms = now_ms()
    made = await make_key(town, name="ci", models=["m", "a", "m"], expires_in_days=2, permission="read_only")
    assert made.headers["cache-control"] == "no-store"
    assert set(made.json()) == {"key_id", "api_key"}
    key = made.json()["api_key"]
    listed = await town.client(ADMIN_KEY).get(f"/admin/v1/accounts/{town.account_id}/keys")
    assert key not in listed.text
    assert [one["name"] for one in listed.json()["data"]] in (["ci", "tests"], ["tests", "ci"])
    shown = await shown_key(town, key)
    assert before_ms <= shown.pop("created_ms") <= now_ms()
    assert before_ms + 2 * DAY_MS <= shown.pop("expires_ms") <= now_ms() + 2 * DAY_MS
    assert shown == {
        "key_id": made.json()["key_id"],
        "account_id": town.account_id,
        "name": "ci",
        "prefix": key[:12],
        "permission": "read_only",
        "models": ["a", "m"],
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "concurrent_requests": None,
        "monthly_budget": None,
        "last_used_ms": None,
        "revoked_ms": None,
    }


@pytest.mark.parametrize(
    "wanted",
    [
        {"name": ""},
        {"name": "x" * 201},
        {"name": 1},
        {"expires_in_days": 0},
        {"expires_in_days": 3651},
        {"expires_in_days": "7"},
        {"models": "m"},
        {"models": [""]},
        {"models": []},
        {"models": ["m"] * 101},
        {"permission": "admin"},
        {"permissions": "read_only"},
    ],
    ids=str,
)
async def test_terms_that_make_no_sense_are_422_and_make_no_key(town: Town, wanted: dict[str, Any]) -> None:
    answer = await make_key(town, **wanted)
    assert answer.status_code == 422
    assert len((await town.client(ADMIN_KEY).get(f"/admin/v1/accounts/{town.account_id}/keys")).json()["data"]) == 1


async def test_no_list_of_models_is_all_and_an_empty_one_is_refused(town: Town) -> None:
    """Whoever ends up with an empty list, of a variable that is not set for one, means no key for everything."""
    await town.node()
    key = await new_key(town, models=["x"])
    assert (await town.client(key).post(PATH, json=request())).status_code == 403
    admin, path = town.client(ADMIN_KEY), f"/admin/v1/keys/{key_id_of(digest_of_key(key))}"
    body = check_shape(await admin.patch(path, json={"models": []}), 422, "invalid_request_error", "invalid_value")
    assert "names no model; leave it out, or send null, for all of them" in body["error"]["message"]
    assert (await shown_key(town, key))["models"] == ["x"]
    assert (await admin.patch(path, json={"models": None})).json()["models"] is None
    town.host.accounts._cache.known.clear()
    assert (await town.client(key).post(PATH, json=request())).status_code == 200


async def test_keys_of_nobody_are_404(town: Town) -> None:
    admin = town.client(ADMIN_KEY)
    answers = [await make_key(town, NOBODY), await admin.get(f"/admin/v1/accounts/{NOBODY}/keys")]
    answers += [await admin.delete(f"/admin/v1/keys/{name}") for name in ("key_" + "0" * 16, "key_", "key_1", town.key)]
    for answer in answers:
        check_shape(answer, 404, "invalid_request_error", "not_found")


async def test_only_the_admin_key_sees_and_makes_keys(town: Town) -> None:
    path = f"/admin/v1/accounts/{town.account_id}/keys"
    key_path = f"/admin/v1/keys/{key_id_of(digest_of_key(town.key))}"
    for method, tried in (("POST", path), ("GET", path), ("DELETE", key_path), ("GET", "/admin/v1/accounts")):
        answer = await town.client().request(method, tried, json={"name": "laptop"})
        check_shape(answer, 401, "authentication_error", "invalid_api_key")
    assert (await town.client().get("/v1/models")).status_code == 200


async def stored_use_ms(town: Town, api_key: str) -> int | None:
    await town.host.accounts.uses.written()
    query = select(API_KEYS.c.last_used_ms).where(API_KEYS.c.key_sha256 == digest_of_key(api_key))
    found: int | None = await town.host._database.read(lambda connection: connection.execute(query).scalar_one())
    return found


async def use_at(town: Town, api_key: str, used_ms: int) -> None:
    change = update(API_KEYS).where(API_KEYS.c.key_sha256 == digest_of_key(api_key)).values(last_used_ms=used_ms)
    await town.host._database.write(lambda connection: connection.execute(change))


async def test_the_last_use_is_written_once_a_minute(town: Town) -> None:
    key, before_ms = await new_key(town), now_ms()
    assert await stored_use_ms(town, key) is None
    await town.host.accounts.holder_now(digest_of_key(key))
    first_ms = await stored_use_ms(town, key)
    assert first_ms is not None
    assert first_ms >= before_ms
    await use_at(town, key, recent_ms := now_ms() - USE_EVERY_MS // 2)
    await town.host.accounts.holder_now(digest_of_key(key))
    assert await stored_use_ms(town, key) == recent_ms
    await use_at(town, key, old_ms := now_ms() - USE_EVERY_MS)
    await town.host.accounts.holder_now(digest_of_key(key))
    assert (await stored_use_ms(town, key) or 0) > old_ms


async def test_a_key_that_is_turned_away_was_not_used(town: Town) -> None:
    revoked, expired = await new_key(town), await new_key(town)
    await town.revoke(revoked)
    await expire(town, expired, 1)
    for key in (revoked, expired):
        assert (await town.client(key).get("/v1/models")).status_code in {401, 403}
        assert await stored_use_ms(town, key) is None


async def test_all_accounts_are_listed_page_by_page_oldest_first(town: Town) -> None:
    made = [town.account_id, *[(await town.account(f"n{number}", credit=5))[0] for number in range(4)]]
    admin, found, after = town.client(ADMIN_KEY), [], ""
    while True:
        page = (await admin.get(f"/admin/v1/accounts?limit=2{after}")).json()
        found += page["data"]
        if not page["has_more"]:
            break
        assert len(page["data"]) == 2
        after = f"&after={page['data'][-1]['account_id']}"
    assert sorted(one["account_id"] for one in found) == sorted(made)
    assert [one["created_ms"] for one in found] == sorted(one["created_ms"] for one in found)
    assert {one["name"]: one["credit"] for one in found}["n3"] == "0.000005"


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=1&limit=2", f"after={NOBODY}", "afer=x"])
async def test_a_page_that_makes_no_sense_is_400(town: Town, query: str) -> None:
    assert (await town.client(ADMIN_KEY).get(f"/admin/v1/accounts?{query}")).status_code == 400


async def test_no_key_is_in_any_log(
    town: Town, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    await town.node()
    keys = [town.key, *[await new_key(town, **terms) for terms in ({}, {"permission": "read_only"}, {"models": ["x"]})]]
    wrong = "sk-pnv-" + "w" * 48
    await town.revoke(keys[1])
    for key in (*keys, wrong):
        client = town.client(key)
        await client.post(PATH, json=request())
        await client.get("/v1/models")
        await client.delete(f"/admin/v1/keys/{key}")
    await ApiKeys(town.host._database).create(town.account_id, KeyTerms(name="x", permission="full"))
    monkeypatch.setattr("pinaivu_host.gateway.chat.check_chat", lambda _: 1 / 0)
    assert (await town.chat()).status_code == 500, "a traceback is logged"
    others = ("httpx", "httpcore.http11", "httpcore.connection")  # the test's own client
    records = [record for record in caplog.records if record.name not in others]
    assert {"pinaivu_host.gateway.app"} <= {record.name for record in records}
    logged = "\n".join([*(record.getMessage() for record in records), *(repr(vars(record)) for record in records)])
    assert "request failed" in logged
    for secret in (*keys, wrong, ADMIN_KEY):
        assert secret[12:] not in logged
