"""One `Idempotency-Key` at a whole network: one receipt, one charge, equal answers, over restarts and crashes too."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.network.conftest import Description, http, pids_of, running

from pinaivu_shared.money import parse_usdc

CLIENTS = 50
BODY: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}]}
KEY = {"idempotency-key": "order 66"}


def ask(network: Description, **fields: Any) -> httpx.Response:
    with http(network) as client:
        return client.post("/chat/completions", json={**BODY, **fields}, headers=KEY)


def ask_until_served(network: Description, **fields: Any) -> httpx.Response:
    """Ask again with the same key, as SDKs do, until there is an answer."""
    while True:
        try:
            answer = ask(network, **fields)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if answer.status_code == httpx.codes.OK and "error" not in answer.text:
            return answer
        assert answer.status_code in {200, 502, 503}, answer.text
        time.sleep(0.1)


def spent_by(network: Description, account_id: str) -> int:
    """What the customer has spent of 100 USDC, in micro-USDC."""
    headers = {"authorization": f"Bearer {network['admin_key']}"}
    with http(network) as client:
        address = network["base_url"].removesuffix("/v1") + f"/admin/v1/accounts/{account_id}"
        return parse_usdc("100") - parse_usdc(client.get(address, headers=headers).json()["credit"])


def charge_of(network: Description, answer: httpx.Response) -> int:
    """What the answer's receipt says it cost, in micro-USDC."""
    with http(network) as client:
        receipt = client.get(f"/receipts/{answer.headers['x-request-id']}").json()
    assert receipt["outcome"] == "completed"
    return parse_usdc(receipt["charge_amount"])


def customer_of(network: Description) -> tuple[Description, str]:
    """The network as a new customer sees it, and the customer's account."""
    headers = {"authorization": f"Bearer {network['admin_key']}"}
    with http(network) as client:
        accounts = network["base_url"].removesuffix("/v1") + "/admin/v1/accounts"
        made = client.post(accounts, json={"name": "customer", "credit": "100"}, headers=headers).json()
    return {**network, "api_key": made["api_key"]}, made["account_id"]


@pytest.mark.parametrize("stream", [False, True])
def test_fifty_clients_are_charged_once_and_answered_alike_and_so_is_one_after_a_restart(
    tmp_path: Path, *, stream: bool
) -> None:
    with running(tmp_path, "echo") as network:
        customer, account_id = customer_of(network)
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(pool.map(lambda _: ask(customer, stream=stream), range(CLIENTS)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert len({answer.headers["x-request-id"] for answer in answers}) == 1
        spent = spent_by(network, account_id)
        assert 0 < spent == charge_of(customer, answers[0])
        assert ask(customer, stream=stream, temperature=1).status_code == 409
    with running(tmp_path, "echo") as network:
        again = ask({**network, "api_key": customer["api_key"]}, stream=stream)
        assert (again.content, again.headers["idempotent-replayed"]) == (answers[0].content, "true")
        assert spent_by(network, account_id) == spent


@pytest.mark.parametrize("stream", [False, True])
def test_fifty_clients_whose_host_is_killed_meanwhile_are_charged_once_in_the_end(
    tmp_path: Path, *, stream: bool
) -> None:
    with running(tmp_path, "echo:tokens=40,token_interval_ms=50") as network:
        customer, account_id = customer_of(network)
        with ThreadPoolExecutor(CLIENTS) as pool:
            asked = [pool.submit(ask_until_served, customer, stream=stream) for _ in range(CLIENTS)]
            with http(network) as client:
                body = {**BODY, "stream": True}
                with client.stream("POST", "/chat/completions", json=body) as other:  # the engine is at work
                    next(line for line in other.iter_lines() if '"content":"' in line)
            os.kill(pids_of(tmp_path)["host"], signal.SIGKILL)
            answers = [one.result() for one in asked]
        assert len({answer.content for answer in answers}) == 1
        assert ask_until_served(customer, stream=stream).content == answers[0].content
        assert 0 < spent_by(network, account_id) == charge_of(customer, answers[0])
