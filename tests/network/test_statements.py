"""A node earns on a whole network: what its receipts pay is stated, signed, and verified without the network."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from pinaivu_node.keys import load_identity
from pinaivu_shared.money import format_usdc, parse_usdc
from pinaivu_simulator.market import Periods
from pinaivu_simulator.network import Network, NetworkPlan, running_network
from pinaivu_simulator.ports import free_port

BODY = {"model": "echo", "messages": [{"role": "user", "content": "a longer question " * 50}]}
JOBS = 5

pytestmark = pytest.mark.trio


async def pinaivu_node(network: Network, command: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """One of the commands of the node's operator."""
    program = [sys.executable, "-m", "pinaivu_shared.command", "node", command, *map(str, arguments)]
    folder = ["--data-dir", str(network.data.node(1)), "--json"]
    return await trio.run_process([*program, *folder], capture_stdout=True, capture_stderr=True, check=False)


async def found(network: Network, command: str, *arguments: str | Path) -> dict[str, Any]:
    """What a command printed that must succeed."""
    ended = await pinaivu_node(network, command, *arguments)
    assert (ended.returncode, ended.stderr) == (0, b"")
    shown: dict[str, Any] = json.loads(ended.stdout)
    return shown


async def run_jobs(network: Network, client: httpx.AsyncClient) -> int:
    """What the receipts of a few jobs pay the only node, in micro-USDC."""
    paid = 0
    for _ in range(JOBS):
        answer = await client.post("/chat/completions", json=BODY)
        receipt = (await client.get(f"/receipts/{answer.headers['x-request-id']}")).json()
        assert receipt["node_id"] == load_identity(network.data.node(1)).node_id
        paid += parse_usdc(receipt["payment_amount"])
    return paid


async def test_what_a_node_earns_is_stated_and_verified_and_a_tampered_copy_refused(tmp_path: Path) -> None:
    periods = Periods(statement_period_ms=1500)
    plan = NetworkPlan(port=free_port(), folder=tmp_path, nodes=1, engine="echo", periods=periods)
    async with running_network(plan) as network:
        key = {"authorization": f"Bearer {network.data.api_key_file.read_text().strip()}"}
        async with httpx.AsyncClient(base_url=network.base_url, headers=key, timeout=60, trust_env=False) as client:
            paid = await run_jobs(network, client)
        assert paid > JOBS
        while (earnings := await found(network, "earnings"))["gateway"]["payable"] != format_usdc(paid):
            pass
        while (earnings := await found(network, "earnings"))["signed"]["payable"] != format_usdc(paid):
            pass
        assert earnings["signed"]["earned"] == earnings["gateway"]["earned"] == format_usdc(0)
        trust, files, amounts = network.data.trust, [], []
        for number in range(1, earnings["gateway"]["statements"] + 1):
            files.append(tmp_path / f"statement-{number}.json")
            shown = await found(network, "statement", str(number), "--trust", trust, "--output", files[-1])
            amounts.append(parse_usdc(shown["amount"]))
        assert sum(amounts) == paid
        assert (await found(network, "statement", "latest", "--trust", trust))["payable"] == format_usdc(paid)
    shown = await found(network, "statement", files[0], "--trust", trust)
    assert shown["valid"] is True
    bundle = json.loads(files[0].read_text())
    bundle["statement"]["amount"] += 1_000_000
    files[0].write_text(json.dumps(bundle))
    ended = await pinaivu_node(network, "statement", files[0], "--trust", trust)
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["check"] == "leaf signature"
