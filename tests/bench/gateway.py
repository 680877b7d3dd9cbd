"""The gateway: settled jobs through everything, beside the same engine asked directly, under the same load.

`echo` answers both. Closed loop for throughput; open loop (requests at fixed times, whatever came back) for latency.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import msgspec
from tests.network.conftest import pids_of, running

BODY: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": "one two three four five"}]}
CLOSED_LOOP_REQUESTS = 1500
CLOSED_LOOP_CLIENTS = 16
OPEN_LOOP_SECONDS = 8
OPEN_LOOP_RATES = (50, 100, 200)
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Target:
    """Somewhere to send chat completions."""

    url: str
    api_key: str


def bench_gateway() -> list[tuple[str, str]]:
    """Rows of (what, figure)."""
    with tempfile.TemporaryDirectory(prefix="pinaivu-bench-") as folder, running(Path(folder), "echo") as network:
        gateway = Target(f"{network['base_url']}/chat/completions", network["api_key"])
        with direct_engine() as engine:
            return [*_throughput(gateway, engine, Path(folder)), *_latency(gateway, engine)]


@contextmanager
def direct_engine() -> Iterator[Target]:
    """The same echo engine without a market around it."""
    command = [sys.executable, "-m", "pinaivu_node.engines.echo_server", "--settings", "", "--port", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = msgspec.json.decode(process.stdout.readline())
            url = address["address"] if isinstance(address, dict) else address
            yield Target(f"{url}/v1/chat/completions", "none")
        finally:
            process.terminate()


def _throughput(gateway: Target, engine: Target, folder: Path) -> list[tuple[str, str]]:
    asyncio.run(_closed_loop(gateway, 200))
    direct = asyncio.run(_closed_loop(engine, CLOSED_LOOP_REQUESTS))
    before = _processor_seconds(folder)
    through = asyncio.run(_closed_loop(gateway, CLOSED_LOOP_REQUESTS))
    spent = {name: after - before[name] for name, after in _processor_seconds(folder).items()}
    rows = [
        ("settled jobs per second, whole network on this machine", f"{CLOSED_LOOP_REQUESTS / through:,.0f}"),
        ("the same engine asked directly, requests per second", f"{CLOSED_LOOP_REQUESTS / direct:,.0f}"),
        ("throughput, through the market / directly", f"{direct / through:.2f}"),
    ]
    for name, seconds in spent.items():
        rows.append((f"processor time of a job: {name}", f"{seconds / CLOSED_LOOP_REQUESTS * 1e3:.2f} ms"))
    return rows


def _latency(gateway: Target, engine: Target) -> list[tuple[str, str]]:
    rows = []
    for rate in OPEN_LOOP_RATES:
        direct = asyncio.run(_open_loop(engine, rate))
        through = asyncio.run(_open_loop(gateway, rate))
        for name, index in (("p50", 49), ("p99", 98)):
            added = quantiles(through, n=100)[index] - quantiles(direct, n=100)[index]
            rows.append((f"added latency {name} at {rate} requests/s", f"{added * 1e3:.1f} ms"))
    return rows


async def _closed_loop(target: Target, requests: int) -> float:
    """Seconds for that many requests by CLOSED_LOOP_CLIENTS clients, each asking again when it was answered."""
    left = iter(range(requests))

    async def client(http: httpx.AsyncClient) -> None:
        for _ in left:
            await _ask(http, target)

    async with _http(target) as http:
        started = time.perf_counter()
        await asyncio.gather(*(client(http) for _ in range(CLOSED_LOOP_CLIENTS)))
        return time.perf_counter() - started


async def _open_loop(target: Target, rate: int) -> list[float]:
    """Latency in seconds of each request, counted from the time at which it was due."""
    latencies = []

    async def one(http: httpx.AsyncClient, due: float) -> None:
        await _ask(http, target)
        latencies.append(time.perf_counter() - due)

    async with _http(target) as http, asyncio.TaskGroup() as tasks:
        started = time.perf_counter()
        for number in range(rate * OPEN_LOOP_SECONDS):
            due = started + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(one(http, due))
    return latencies


async def _ask(http: httpx.AsyncClient, target: Target) -> None:
    answer = await http.post(target.url, json=BODY)
    answer.raise_for_status()


def _http(target: Target) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    headers = {"authorization": f"Bearer {target.api_key}"}
    return httpx.AsyncClient(headers=headers, timeout=60, trust_env=False, limits=limits, verify=False)  # noqa: S501


def _processor_seconds(folder: Path) -> dict[str, float]:
    pids = pids_of(folder)
    found = {"gateway": _seconds_of(pids["host"]), "enclave": _seconds_of(pids["enclave"])}
    found["node agents"] = sum(_seconds_of(pid) for pid in pids["nodes"])
    return found


def _seconds_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
