"""Receipts of a running network: there at once, valid offline, and what the answer committed to."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.network.conftest import Description, http

from pinaivu_shared.commitments import request_commitment, response_commitment
from pinaivu_shared.sse import assemble_choices, data_events

BODY: dict[str, Any] = {
    "model": "echo",
    "messages": [{"role": "user", "content": "Grüße, 世界 🙂"}],
    "temperature": 0.5,
    "user": "somebody",
}


@pytest.mark.parametrize("streamed", [False, True])
def test_five_hundred_receipts_are_there_the_moment_their_answer_is(
    echo_network: Description, *, streamed: bool
) -> None:
    with http(echo_network) as client:
        for _ in range(500):
            answer = client.post("/chat/completions", json={**BODY, "stream": streamed})
            request_id = answer.headers["x-request-id"]
            receipt = client.get(f"/receipts/{request_id}")
            assert (receipt.status_code, receipt.json()["request_id"]) == (200, request_id)


def verify(network: Description, folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pinaivu_shared.command", "verify", "--trust", network["trust"]]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_bundle_is_valid_and_opens(echo_network: Description, tmp_path: Path, *, streamed: bool) -> None:
    body = {**BODY, "stream": streamed}
    with http(echo_network) as client:
        answer = client.post("/chat/completions", json=body)
        bundle = client.get(f"/receipts/{answer.headers['x-request-id']}/bundle")
    files = {"bundle": bundle.content, "request": json.dumps(body).encode(), "response": answer.content}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    opened: list[str | Path] = ["--request", tmp_path / "request", "--response", tmp_path / "response"]
    ended = verify(echo_network, tmp_path, tmp_path / "bundle", *opened)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_streamed_and_an_unstreamed_answer_commit_alike(echo_network: Description) -> None:
    salt = bytes(32)
    with http(echo_network) as client:
        whole = client.post("/chat/completions", json=BODY).json()["choices"]
        stream = client.post("/chat/completions", json={**BODY, "stream": True}).text
    assert response_commitment(assemble_choices(data_events(stream)), salt) == response_commitment(whole, salt)


def test_the_receipt_commits_to_the_whole_body_as_it_was_sent(echo_network: Description) -> None:
    with http(echo_network) as client:
        answer = client.post("/chat/completions", json=BODY)
        receipt = client.get(f"/receipts/{answer.headers['x-request-id']}").json()
    salt = bytes.fromhex(answer.headers["x-pinaivu-salt"])
    assert receipt["request_commitment"] == request_commitment(BODY, salt)
    assert receipt["response_commitment"] == response_commitment(answer.json()["choices"], salt)


def test_a_stranger_finds_no_receipt(echo_network: Description) -> None:
    with http(echo_network) as client:
        request_id = client.post("/chat/completions", json=BODY).headers["x-request-id"]
        admin = {"authorization": f"Bearer {echo_network['admin_key']}"}
        accounts = echo_network["base_url"].removesuffix("/v1") + "/admin/v1/accounts"
        made = client.post(accounts, json={"name": "stranger", "credit": "1.50"}, headers=admin).json()
        stranger = {"authorization": f"Bearer {made['api_key']}"}
        for path in ("", "/bundle"):
            found = client.get(f"/receipts/{request_id}{path}", headers=stranger)
            assert (found.status_code, found.json()["error"]["code"]) == (404, "receipt_not_found")


def test_a_live_attestation_answers_the_callers_nonce(echo_network: Description, tmp_path: Path) -> None:
    nonce = "ab" * 32
    with http(echo_network) as client:
        answer = client.get("/attestation", params={"nonce": nonce}).json()
    document = tmp_path / "document"
    document.write_text(answer["document"])
    command = [sys.executable, "-m", "pinaivu_shared.command", "attestation", "verify", str(document)]
    command += ["--trust", echo_network["trust"], "--nonce", nonce]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    command[-1] = "cd" * 32
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1
