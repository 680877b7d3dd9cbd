"""The operator's API for money: deposits, payouts and orders that were signed elsewhere, each counted once."""

import base64
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.host.fake_enclave import OPERATOR_KEY
from tests.host.shape import check_shape
from tests.host.town import ADMIN_KEY, CONFIGURATION, Town, deposit, request

from pinaivu_host.operator_orders import OperatorKey
from pinaivu_shared.canonical import encode
from pinaivu_shared.errors import CallerError
from pinaivu_shared.leaves import OrderLeaf
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.signed import Signed
from pinaivu_shared.wire.link import RecordOrder

pytestmark = pytest.mark.anyio
KEY = OperatorKey(OPERATOR_KEY, CONFIGURATION)
NODE = "node_" + "5" * 32


def signed_elsewhere(signed: Signed) -> dict[str, str]:
    return {"order": base64.b64encode(signed.payload).decode(), "signature": signed.signature.hex()}


async def credit_of(town: Town, account_id: str) -> int:
    answer = await town.client(ADMIN_KEY).get(f"/admin/v1/accounts/{account_id}")
    return parse_usdc(answer.json()["credit"])


async def pay_in(town: Town, **body: str) -> httpx.Response:
    path = f"/admin/v1/accounts/{town.account_id}/deposits"
    return await town.client(ADMIN_KEY).post(path, json=body)


async def orders(town: Town) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await town.client(ADMIN_KEY).get("/admin/v1/orders")).json()["orders"]
    return found


async def test_a_new_accounts_key_works_at_once(town: Town) -> None:
    await town.node()
    made = (await town.client(ADMIN_KEY).post("/admin/v1/accounts", json={"name": "ann", "credit": "1.50"})).json()
    assert (await town.client(made["api_key"]).post("/v1/chat/completions", json=request())).status_code == 200


async def test_without_an_enclave_no_account_is_opened(town: Town) -> None:
    known = len(await orders(town))
    await town.enclave.stop()
    while town.host.link.ready:
        await town.client().get("/readyz")
    answer = await town.client(ADMIN_KEY).post("/admin/v1/accounts", json={"name": "ann", "credit": "1.50"})
    check_shape(answer, 503, "server_error", "coordinator_unavailable")
    assert len(await orders(town)) == known
    without_credit = await town.client(ADMIN_KEY).post("/admin/v1/accounts", json={"name": "bob"})
    assert without_credit.status_code == 200, "there is nothing to record"


async def test_an_account_whose_credit_is_on_its_way_is_202(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinaivu_host.gateway.admin.orders.RECORD_LIMIT_S", 0.01)
    town.enclave.silent_on = (RecordOrder,)
    answer = await town.client(ADMIN_KEY).post("/admin/v1/accounts", json={"name": "ann", "credit": "1.50"})
    assert (answer.status_code, set(answer.json())) == (202, {"account_id", "api_key"})
    assert await credit_of(town, answer.json()["account_id"]) == 0
    town.enclave.silent_on = ()
    town.enclave.drop()
    while await credit_of(town, answer.json()["account_id"]) != 1_500_000:
        await town.enclave.heard(RecordOrder, count=2)


async def test_a_deposit_counts_once_for_its_reference(town: Town) -> None:
    before = await credit_of(town, town.account_id)
    answers = [await pay_in(town, amount="2.5", reference="invoice-1") for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert answers[0].json() == answers[1].json() == answers[2].json()
    shown = {name: answers[0].json()[name] for name in ("kind", "account_id", "amount", "fund", "state")}
    assert shown == {
        "kind": "deposit",
        "account_id": town.account_id,
        "amount": "2.500000",
        "fund": "deposits",
        "state": "recorded",
    }
    other = await pay_in(town, amount="2.6", reference="invoice-1")
    check_shape(other, 409, "invalid_request_error", "order_conflict")
    assert await credit_of(town, town.account_id) == before + 2_500_000
    assert len(town.enclave.logged(OrderLeaf)) == 2, "the opening deposit, and this one"


async def test_deposits_without_a_reference_are_different_ones(town: Town) -> None:
    first, second = [await pay_in(town, amount="1", fund="promotions") for _ in range(2)]
    assert first.json()["reference"] != second.json()["reference"]
    assert [leaf.order.fund for leaf in town.enclave.logged(OrderLeaf)] == ["deposits", "promotions", "promotions"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"amount": "0"},
        {"amount": "-1"},
        {"amount": "1e3"},
        {"amount": "1000000000.000001"},
        {"amount": 1},
        {"amount": "1", "fund": "gifts"},
        {"amount": "1", "reference": ""},
        {"amount": "1", "reference": "with space"},
        {"amount": "1", "reference": "new\nline"},
        {"amount": "1", "reference": "x" * 129},
    ],
    ids=str,
)
async def test_a_deposit_that_makes_no_sense_is_422(town: Town, body: dict[str, str]) -> None:
    known = await orders(town)
    answer = await pay_in(town, **body)
    assert (answer.status_code, bool(answer.json()["detail"])) == (422, True)
    assert await orders(town) == known


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("accounts/{account_id}/deposits", {"amount": "1", "refrence": "invoice-9"}),
        ("accounts", {"name": "ann", "crédit": "1.50"}),
        ("payouts", {"node_id": NODE, "amount": "1", "reference": "wire-1", "fund": "promotions"}),
        ("orders", {"order": "e30=", "signature": "00" * 64, "Order": "e30="}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_field_that_does_not_exist_is_422_and_named(town: Town, path: str, body: dict[str, str]) -> None:
    """Ignored, a misspelt reference would have one payment counted twice."""
    known = await orders(town)
    answer = await town.client(ADMIN_KEY).post(f"/admin/v1/{path.format(account_id=town.account_id)}", json=body)
    *_, unknown = body
    check_shape(answer, 422, "invalid_request_error", "invalid_value")
    assert answer.json()["error"]["param"] == unknown
    assert [one["loc"] for one in answer.json()["detail"]] == [["body", unknown]]
    assert await orders(town) == known


async def test_a_deposit_for_nobody_is_404(town: Town) -> None:
    path = f"/admin/v1/accounts/acct_{'0' * 32}/deposits"
    assert (await town.client(ADMIN_KEY).post(path, json={"amount": "1"})).status_code == 404


async def test_more_than_can_be_paid_in_is_refused_by_the_enclave(town: Town) -> None:
    answer = await pay_in(town, amount="1000000000", reference="all")
    check_shape(answer, 409, "invalid_request_error", "order_refused")
    assert "can be paid in, in all" in answer.json()["error"]["message"]
    shown = (await orders(town))[0]
    assert (shown["reference"], shown["state"], "leaf_index" in shown) == ("all", "refused", False)
    assert shown["refusal"].startswith("impossible_order: at most ")


async def test_a_payout_is_recorded_against_what_is_payable(town: Town) -> None:
    unknown = {"node_id": NODE, "amount": "1", "reference": "wire-1"}
    answer = await town.client(ADMIN_KEY).post("/admin/v1/payouts", json=unknown)
    check_shape(answer, 409, "invalid_request_error", "order_refused")
    assert f"no node {NODE}" in answer.json()["error"]["message"]
    node = await town.node()
    await town.chat()
    await town.enclave.stored()
    town.enclave.tick(later_ms=120_000)
    known = {"node_id": node.node_id, "amount": "0.000001", "reference": "wire-2"}
    answer = await town.client(ADMIN_KEY).post("/admin/v1/payouts", json=known)
    assert answer.json() | known | {"kind": "payout", "state": "recorded"} == answer.json()


async def test_an_order_that_was_signed_elsewhere_is_taken(closed_town: Town) -> None:
    town = closed_town
    town.settings["operator_key"] = None
    await town.open()
    before = await credit_of(town, town.account_id)
    body = signed_elsewhere(KEY.deposit(reference="cold-1", account=town.account_id, amount=3_000_000))
    for _ in range(2):
        answer = await town.client(ADMIN_KEY).post("/admin/v1/orders", json=body)
        assert (answer.status_code, answer.json()["state"]) == (200, "recorded")
    assert await credit_of(town, town.account_id) == before + 3_000_000
    await town.close()


async def test_without_the_operators_key_this_host_makes_no_order(closed_town: Town) -> None:
    town = closed_town
    town.settings["operator_key"] = None
    await town.open()
    payout = {"node_id": NODE, "amount": "1", "reference": "wire-1"}
    admin = town.client(ADMIN_KEY)
    for answer in (
        await pay_in(town, amount="1"),
        await admin.post("/admin/v1/payouts", json=payout),
        await admin.post("/admin/v1/accounts", json={"name": "ann", "credit": "1"}),
    ):
        check_shape(answer, 403, "permission_error", "no_operator_key")
        assert "pinaivu host sign-order" in answer.json()["error"]["message"]
    assert [one["reference"] for one in await orders(town)] == [town.enclave.logged(OrderLeaf)[0].order.reference]
    await town.close()


def altered(**changes: str) -> dict[str, str]:
    return GOOD | changes


GOOD = signed_elsewhere(KEY.deposit(reference="cold", account="acct_" + "a" * 32, amount=3))
ELSEWHERE = encode(deposit("acct_" + "a" * 32, 3, origin="other.example/log"))


@pytest.mark.parametrize(
    "body",
    [
        altered(signature="00" * 64),
        altered(signature=GOOD["signature"].upper()),
        altered(signature=GOOD["signature"][2:]),
        altered(order="no base64"),
        altered(order=base64.b64encode(b"{}").decode()),
        altered(order=base64.b64encode(base64.b64decode(GOOD["order"]) + b" ").decode()),
        altered(order=base64.b64encode(ELSEWHERE).decode()),
        {"order": GOOD["order"]},
    ],
    ids=["signature", "capitals", "short", "base64", "no order", "not canonical", "another log", "unsigned"],
)
async def test_what_the_operator_did_not_sign_for_this_log_is_422(town: Town, body: dict[str, str]) -> None:
    known = await orders(town)
    answer = await town.client(ADMIN_KEY).post("/admin/v1/orders", json=body)
    assert answer.status_code == 422
    assert await orders(town) == known


async def test_only_the_admin_key_moves_money(town: Town) -> None:
    client = town.client()
    for method, path in (
        ("POST", f"/admin/v1/accounts/{town.account_id}/deposits"),
        ("POST", "/admin/v1/payouts"),
        ("POST", "/admin/v1/orders"),
        ("GET", "/admin/v1/orders"),
    ):
        answer = await client.request(method, path, json=GOOD)
        check_shape(answer, 401, "authentication_error", "invalid_api_key")


async def test_a_key_that_the_configuration_does_not_name_is_refused_at_start(closed_town: Town) -> None:
    town = closed_town
    town.settings["operator_key"] = Ed25519PrivateKey.from_private_bytes(b"x" * 32)
    with pytest.raises(CallerError, match=f"the configuration names {CONFIGURATION.operator_key}"):
        await town.open_host()
