"""Credit on the real stack: what fits is served, what does not is a 429, and nobody ever spends what he has not got."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.network.conftest import Description, http, running

from pinaivu_shared.money import parse_usdc

FITTING = 20
ASKING = 500
BODY: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": "a " * 200}]}
"""More tokens than its bytes let expect: the last of the credit must pay for as much as the first all the same."""


def operator(network: Description) -> httpx.Client:
    """A client with the admin key."""
    headers = {"authorization": f"Bearer {network['admin_key']}"}
    base = network["base_url"].removesuffix("/v1") + "/admin/v1"
    return httpx.Client(base_url=base, headers=headers, timeout=60, trust_env=False)


def usdc(amount: int) -> str:
    return f"{amount // 1_000_000}.{amount % 1_000_000:06d}"


def charge_of_one(network: Description, body: dict[str, Any]) -> int:
    """What one such request costs; with one node each costs the same."""
    with http(network) as client:
        request_id = client.post("/chat/completions", json=body).headers["x-request-id"]
        return parse_usdc(client.get(f"/receipts/{request_id}").json()["charge_amount"])


@pytest.mark.parametrize("limit", [{}, {"max_tokens": 200}], ids=["no limit", "a limit"])
def test_of_five_hundred_requests_at_once_exactly_those_that_the_budget_pays_for_are_served(
    tmp_path: Path, limit: dict[str, int]
) -> None:
    body = BODY | limit
    with running(tmp_path, "echo", nodes=1) as network, operator(network) as admin:
        charge = charge_of_one(network, body)
        budget = FITTING * charge
        made = admin.post("/accounts", json={"name": "bounded", "credit": usdc(budget)}).json()
        limits = httpx.Limits(max_connections=ASKING)
        key = {"authorization": f"Bearer {made['api_key']}"}

        def ask(_: int) -> tuple[int, str]:
            answer = client.post("/chat/completions", json=body)
            if answer.status_code == httpx.codes.OK:
                return 200, answer.json()["choices"][0]["finish_reason"]
            assert answer.headers["retry-after"].isdecimal()
            return answer.status_code, answer.json()["error"]["code"]

        with (
            httpx.Client(
                base_url=network["base_url"], headers=key, timeout=60, trust_env=False, limits=limits
            ) as client,
            ThreadPoolExecutor(ASKING) as pool,
        ):
            answers = Counter(pool.map(ask, range(ASKING)))
        left = admin.get(f"/accounts/{made['account_id']}").json()["credit"]
    assert answers == {(200, "stop"): FITTING, (429, "insufficient_credit"): ASKING - FITTING}
    assert left == "0.000000"


def test_a_payment_that_comes_in_opens_the_door_again(tmp_path: Path) -> None:
    with running(tmp_path, "echo", nodes=1) as network, operator(network) as admin:
        charge = charge_of_one(network, BODY)
        made = admin.post("/accounts", json={"name": "bounded", "credit": usdc(charge)}).json()
        key = {"authorization": f"Bearer {made['api_key']}"}
        with httpx.Client(base_url=network["base_url"], headers=key, timeout=60, trust_env=False) as client:
            assert client.post("/chat/completions", json=BODY).status_code == httpx.codes.OK
            assert client.post("/chat/completions", json=BODY).status_code == httpx.codes.TOO_MANY_REQUESTS
            deposit = {"amount": usdc(charge), "reference": "invoice-1"}
            for _ in range(2):  # handed in twice, it counts once
                paid = admin.post(f"/accounts/{made['account_id']}/deposits", json=deposit)
                assert (paid.status_code, paid.json()["state"]) == (200, "recorded")
            assert client.post("/chat/completions", json=BODY).status_code == httpx.codes.OK
            assert client.post("/chat/completions", json=BODY).status_code == httpx.codes.TOO_MANY_REQUESTS


def test_a_network_started_again_deposits_nothing_a_second_time(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        with running(tmp_path, "echo", nodes=1) as network, operator(network) as admin:
            seen.append(admin.get("/orders").json()["orders"])
    assert seen[0] == seen[1]
    assert [(order["state"], order["amount"]) for order in seen[0]] == [("recorded", "1000.000000")]
