"""Parts that fail, die or leave: the caller sees the other node's answer, and the network finds itself again."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.network.conftest import Description, http, pids_of, running, wait_for_receipt

BODY: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}]}
LEAVING = 200


def ask_until_served(network: Description) -> httpx.Response:
    """Ask again, as SDKs do, until the network is back; pytest's own limit is the only bound."""
    while True:
        try:
            with http(network) as client:
                answer = client.post("/chat/completions", json=BODY)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if answer.status_code == httpx.codes.OK:
            return answer
        assert answer.status_code in {502, 503}, answer.text
        time.sleep(0.1)


def test_killed_parts_find_each_other_again(tmp_path: Path) -> None:
    with running(tmp_path, "echo") as network:
        before = ask_until_served(network).headers["x-request-id"]
        for part in ("enclave", "host", "node"):
            pids = pids_of(tmp_path)
            os.kill(pids["nodes"][0] if part == "node" else pids[part], signal.SIGKILL)
            ask_until_served(network)
        with http(network) as client:
            assert client.get(f"/receipts/{before}").json()["outcome"] == "completed"


def test_a_network_started_again_goes_on_where_it_was(tmp_path: Path) -> None:
    with running(tmp_path, "echo") as network:
        request_id = ask_until_served(network).headers["x-request-id"]
        with http(network) as client:
            receipt = client.get(f"/receipts/{request_id}").content
    with running(tmp_path, "echo") as again:
        assert (again["api_key"], again["admin_key"]) == (network["api_key"], network["admin_key"])
        with http(again) as client:
            assert client.get(f"/receipts/{request_id}").content == receipt
            later = ask_until_served(again).headers["x-request-id"]
            assert client.get(f"/receipts/{later}").json()["log"]["index"] > json.loads(receipt)["log"]["index"]


def test_two_hundred_clients_that_leave_free_every_engine_and_slot(tmp_path: Path) -> None:
    with running(tmp_path, "echo:tokens=100000,token_interval_ms=20", slots=LEAVING // 2) as network:

        def leave_after_the_first_token(_: int) -> str:
            with http(network) as client, client.stream("POST", "/chat/completions", json=streamed) as answer:
                for line in answer.iter_lines():
                    if '"content":"' in line and '"content":""' not in line:
                        break
                return str(answer.headers["x-request-id"])

        streamed = {**BODY, "stream": True}
        with ThreadPoolExecutor(LEAVING) as pool:
            left = list(pool.map(leave_after_the_first_token, range(LEAVING)))
        with http(network) as client:
            for request_id in left:
                receipt = wait_for_receipt(client, request_id)
                assert receipt["outcome"] == "cancelled", receipt
            # Every slot was taken; that all can be taken again shows that all are free.
            with ThreadPoolExecutor(LEAVING) as pool:
                assert len(set(pool.map(leave_after_the_first_token, range(LEAVING)))) == LEAVING


@pytest.mark.parametrize("fault", ["disconnect_before_first_token", "refuse"])
def test_an_engine_that_fails_before_its_first_token_is_a_502_with_a_receipt(tmp_path: Path, fault: str) -> None:
    with running(tmp_path, f"echo:fault={fault}", nodes=1) as network, http(network) as client:
        answer = client.post("/chat/completions", json=BODY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "node_failed")
        receipt = wait_for_receipt(client, answer.headers["x-request-id"])
        assert (receipt["outcome"], receipt["payment_amount"]) == ("failed", "0.000000 USDC")


def test_an_engine_that_fails_after_its_first_token_ends_the_stream_with_an_error(tmp_path: Path) -> None:
    engine = "echo:tokens=10,fault=disconnect_after_tokens:3"
    with running(tmp_path, engine, nodes=1) as network, http(network) as client:
        stream = client.post("/chat/completions", json={**BODY, "stream": True})
        *_, last, end = stream.text.split("\n\n")
        assert (json.loads(last.removeprefix("data: "))["error"]["code"], end) == ("node_failed", "")
        assert '"finish_reason":"' not in stream.text
        receipt = wait_for_receipt(client, stream.headers["x-request-id"])
        assert (receipt["outcome"], receipt["payment_amount"]) == ("failed", "0.000000 USDC")
        whole = client.post("/chat/completions", json=BODY)
        assert (whole.status_code, whole.json()["error"]["code"]) == (502, "node_failed")
