"""Models, receipts, attestation, accounts: what each shows, and to whom."""

import base64
import hashlib

import httpx
import pytest
from tests.host.fake_node import Offered, endless
from tests.host.town import ADMIN_KEY, Town, request

from pinaivu_shared.attestation.document import parse_unverified
from pinaivu_shared.canonical import encode
from pinaivu_shared.wire.link import OpenJob

pytestmark = pytest.mark.anyio


async def test_models_are_those_that_nodes_offer_right_now(town: Town) -> None:
    client = town.client()
    assert (await client.get("/v1/models")).json() == {"object": "list", "data": []}
    node = await town.node(models=("m", "a/b:1"))
    listed = (await client.get("/v1/models")).json()["data"]
    assert [one["id"] for one in listed] == ["a/b:1", "m"]
    assert all(list(one) == ["id", "object", "created", "owned_by", "context_length", "pricing"] for one in listed)
    assert all(one["created"] > 10**9 for one in listed)
    assert (await client.get("/v1/models/a/b:1")).json() == listed[0]
    assert (await client.get("/v1/models/a%2Fb%3A1")).json() == listed[0]
    await node.stop()
    while len(town.host.nodes):
        await town.enclave.heard(OpenJob, count=0)
        assert (await client.get("/v1/models")).status_code == 200
    assert (await client.get("/v1/models")).json()["data"] == []


async def test_created_is_the_same_after_a_restart(town: Town) -> None:
    first = await town.node()
    created = (await town.client().get("/v1/models/m")).json()["created"]
    await first.stop()
    town.host.first_quotes._first_ms["m"] -= 5_000_000
    await town.host.first_quotes.load()
    assert town.host.first_quotes.first_s("m") == created


async def test_a_receipt_is_for_its_owner_only(town: Town) -> None:
    await town.node()
    request_id = (await town.chat()).json()["request_id"]
    _, other = await town.account("other", credit=1)
    for path in (f"/v1/receipts/{request_id}", f"/v1/receipts/{request_id}/bundle"):
        assert (await town.client().get(path)).status_code == 200
        foreign = await town.client(other).get(path)
        absent = await town.client().get(path.replace(request_id, "req_" + "0" * 26))
        malformed = await town.client().get(path.replace(request_id, "nonsense"))
        for response in (foreign, absent, malformed):
            assert response.status_code == 404
            assert response.json()["error"]["code"] == "receipt_not_found"
            assert response.json()["error"]["message"] == foreign.json()["error"]["message"]


async def test_a_receipt_never_changes_and_says_so(town: Town) -> None:
    await town.node()
    path = f"/v1/receipts/{(await town.chat()).json()['request_id']}"
    first = await town.client().get(path)
    assert "immutable" in first.headers["cache-control"]
    again = await town.client().get(path, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = await town.client().head(path)
    assert (head.status_code, head.headers["etag"]) == (200, first.headers["etag"])


async def test_a_bundle_waits_for_a_checkpoint_but_not_for_ever(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinaivu_host.gateway.log_proof.CHECKPOINT_LIMIT_S", 0.05)
    await town.node()
    town.enclave.checkpoints = False
    path = f"/v1/receipts/{(await town.chat()).json()['request_id']}/bundle"
    response = await town.client().get(path)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    town.enclave.checkpoints = True
    await town.chat()
    monkeypatch.setattr("pinaivu_host.gateway.log_proof.CHECKPOINT_LIMIT_S", 30)
    assert (await town.client().get(path)).status_code == 200


async def test_a_job_without_a_proof_has_a_bundle_without_one(town: Town) -> None:
    async def broken(offered: Offered) -> None:
        await offered.decline("engine_unavailable")

    await town.node(broken)
    request_id = (await town.chat()).json()["request_id"]
    bundle = (await town.client().get(f"/v1/receipts/{request_id}/bundle")).json()
    assert "node_proof" not in bundle
    assert bundle["receipt"]["node_proof"] == ""


async def test_attestation_needs_no_key_and_takes_the_askers_nonce(town: Town) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{town.port}", trust_env=False) as client:
        shown = (await client.get("/v1/attestation", params={"nonce": "00fF"})).json()
        document = parse_unverified(base64.b64decode(shown["document"]))
        assert document.nonce == b"\x00\xff"
        assert document.user_data == hashlib.sha256(encode(shown["manifest"])).digest()
        assert shown["manifest"]["origin"] == town.configuration.origin
        assert encode(shown["configuration"]) == encode(town.configuration)
        assert (await client.get("/v1/attestation")).status_code == 200
        for wrong in ("0", "zz", "00" * 1025, "0x00"):
            response = await client.get("/v1/attestation", params={"nonce": wrong})
            assert response.status_code == 400
            assert response.json()["error"]["param"] == "nonce"


async def test_the_operator_opens_accounts_and_sees_their_credit(town: Town) -> None:
    await town.node()
    operator = town.client(ADMIN_KEY)
    created = (await operator.post("/admin/v1/accounts", json={"name": "ann", "credit": "1.50"})).json()
    assert set(created) == {"account_id", "api_key"}
    assert created["api_key"].startswith("sk-pnv-")
    assert len(created["api_key"]) == 7 + 48
    path = f"/admin/v1/accounts/{created['account_id']}"
    shown = (await operator.get(path)).json()
    assert shown.pop("created_ms") > 10**12
    assert shown == {"account_id": created["account_id"], "name": "ann", "credit": "1.500000"}
    response = await town.client(created["api_key"]).post("/v1/chat/completions", json=request())
    assert response.status_code == 200
    # 11 tokens at 20,000 and 1 at 60,000 per million are 0.28, paid as 1; the fee of a tenth is rounded up to 1.
    assert (await operator.get(path)).json()["credit"] == "1.499998"


@pytest.mark.parametrize(
    "body",
    [
        {"credit": "1"},
        {"name": ""},
        {"name": 5},
        {"name": "x", "credit": 1.5},
        {"name": "x", "credit": "-1"},
        {"name": "x", "credit": "1.2345678"},
        {"name": "x", "credit": "9999999999999999"},
    ],
)
async def test_an_account_that_makes_no_sense_is_422(town: Town, body: dict[str, object]) -> None:
    response = await town.client(ADMIN_KEY).post("/admin/v1/accounts", json=body)
    assert response.status_code == 422
    assert response.json()["detail"]


async def test_only_the_admin_key_opens_admin(town: Town) -> None:
    for key in (town.key, ADMIN_KEY + "x", ADMIN_KEY[:-1]):
        response = await town.client(key).post("/admin/v1/accounts", json={"name": "x"})
        assert response.status_code == 401
        assert (await town.client(key).get(f"/admin/v1/accounts/{town.account_id}")).status_code == 401
    assert (await town.client(ADMIN_KEY).get("/admin/v1/accounts/acct_none")).status_code == 404


async def test_without_an_admin_key_nobody_is_the_operator(closed_town: Town) -> None:
    town = closed_town
    town.settings["admin_key"] = None
    await town.open()
    assert (await town.client("None").post("/admin/v1/accounts", json={"name": "x"})).status_code == 401
    await town.close()


async def test_a_queue_that_is_full_turns_callers_away_at_once(closed_town: Town) -> None:
    town = closed_town
    town.settings["queue_max"] = 0
    await town.open()
    await town.node(endless, slots=1)
    async with town.client().stream("POST", "/v1/chat/completions", json=request(stream=True)) as running:
        assert running.status_code == 200
        response = await town.chat()
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "no_node_available"
    await town.close()


async def test_waiting_for_a_slot_ends_in_503(closed_town: Town) -> None:
    town = closed_town
    town.settings["queue_ms"] = 50
    await town.open()
    await town.node(endless, slots=1)
    async with town.client().stream("POST", "/v1/chat/completions", json=request(stream=True)) as running:
        assert running.status_code == 200
        response = await town.chat()
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
    await town.close()


async def test_health_and_readiness(town: Town) -> None:
    assert (await town.client().get("/healthz")).json() == {"status": "ok"}
    assert (await town.client().get("/readyz")).json() == {"status": "ready", "nodes": 0}
    town.host.market.draining = True
    assert (await town.client().get("/readyz")).status_code == 503
    response = await town.chat()
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "shutting_down"
