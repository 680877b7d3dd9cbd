"""`pinaivu demo`: one request, one receipt, one refusal, on a network of its own."""

import json
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import trio
from rich.console import Console

from pinaivu_shared.bundle import parse_bundle, verify_bundle
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.money import format_usdc, parse_usdc
from pinaivu_shared.sse import assemble_choices, data_events
from pinaivu_shared.trust import parse_trust
from pinaivu_simulator.network import Network, NetworkPlan, running_network

QUESTION: Final = "Tell me a story about a fox."


async def run_demo(plan: NetworkPlan) -> bool:
    """Show the whole path once; True when the receipt was found valid and its tampered copy was refused."""
    console = Console(highlight=False)
    console.print(f"starting an enclave simulator, a host and {plan.nodes} nodes …", style="dim")
    async with running_network(plan) as network:
        request = {
            "model": network.models[0],
            "messages": [{"role": "user", "content": QUESTION}],
            "temperature": 0,
            "max_tokens": 200,
            "stream": True,
        }
        console.print(f"\n[bold]request[/bold]  {QUESTION}\n[bold]answer[/bold]   ", end="")
        request_id, choices = await _ask(network, request, console)
        bundle = await _fetch_bundle(network, request_id)
        trust = network.data.trust.read_bytes()
    console.print("\n\nthe network is down; what follows needs nothing of it", style="dim")
    console.print("\n[bold]receipt[/bold]")
    console.print_json(msgspec.json.encode(parse_bundle(bundle).receipt).decode())
    valid = _judge(console, bundle, trust, request, choices)
    console.print("\n[bold]the same receipt, its payment raised by 1 USDC[/bold]")
    return valid and not _judge(console, _raise_payment(bundle), trust, request, choices)


async def _ask(network: Network, request: dict[str, Any], console: Console) -> tuple[str, list[dict[str, Any]]]:
    received = []
    async with (
        _client(network) as client,
        client.stream("POST", f"{network.base_url}/chat/completions", json=request) as answer,
    ):
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            for event in data_events(line + "\n\n"):
                received.append(event)
                for choice in event["choices"]:
                    console.print(choice["delta"].get("content") or "", end="", markup=False)
                    await trio.sleep(0.01)  # a tiny model is faster than an eye
        request_id = answer.headers["x-request-id"]
    return request_id, assemble_choices(received)


async def _fetch_bundle(network: Network, request_id: str) -> bytes:
    async with _client(network) as client:
        answer = await client.get(f"{network.base_url}/receipts/{request_id}/bundle")
        answer.raise_for_status()
        return answer.content


def _client(network: Network) -> httpx.AsyncClient:
    key = network.data.api_key_file.read_text().strip()
    return httpx.AsyncClient(trust_env=False, timeout=60, headers={"authorization": f"Bearer {key}"})


def _judge(
    console: Console, bundle: bytes, trust: bytes, request: dict[str, Any], choices: list[dict[str, Any]]
) -> bool:
    try:
        verified = verify_bundle(parse_bundle(bundle), parse_trust(trust), request=request, choices=choices)
    except VerificationError as error:
        console.print(f"[bold red]not valid[/bold red]  {error}")
        return False
    console.print(
        f"[bold green]valid[/bold green]  {verified.receipt.node_id} won against {len(verified.transcript.bids) - 1} "
        f"others, was paid {verified.receipt.payment_amount}; request and answer open their commitments; "
        f"leaf {verified.inclusion.index} of {verified.inclusion.size} in the log"
    )
    console.print("[dim]not proven: that the node ran the weights it named; this is a simulated platform[/dim]")
    return True


def _raise_payment(bundle: bytes) -> bytes:
    forged = json.loads(bundle)
    paid = parse_usdc(forged["receipt"]["payment_amount"])
    forged["receipt"]["payment_amount"] = format_usdc(paid + 1_000_000)
    return json.dumps(forged).encode()


def demo_plan(folder: Path, port: int, *, log_level: str) -> NetworkPlan:
    """Three nodes with the embedded model."""
    return NetworkPlan(port=port, folder=folder, nodes=3, engine="embedded", log_level=log_level)
