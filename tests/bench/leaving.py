"""200 callers that leave in mid-stream: how soon every job is settled and every slot free, and what memory stays."""

import asyncio
import os
import tempfile
import time
from pathlib import Path

import httpx
from tests.network.conftest import pids_of, running

CALLERS = 200
ENGINE = "echo:tokens=1000000,token_interval_ms=20"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def bench_leaving() -> list[tuple[str, str]]:
    """Rows of (what, figure)."""
    with tempfile.TemporaryDirectory(prefix="pinaivu-bench-") as folder, running(Path(folder), ENGINE) as network:
        host = pids_of(Path(folder))["host"]
        rows, memory = [], [_resident_mib(host)]
        for _ in range(3):
            seconds, streaming = asyncio.run(_leave(network["base_url"], network["api_key"], host))
            rows.append(seconds)
            memory += [streaming, _resident_mib(host)]
    return [
        (f"{CALLERS} callers leave: until the last receipt is written", " / ".join(f"{one:.2f} s" for one in rows)),
        (
            "gateway memory in MiB: idle, then streaming and after, three times",
            " / ".join(f"{one:.0f}" for one in memory),
        ),
    ]


async def _leave(base_url: str, api_key: str, host: int) -> tuple[float, float]:
    headers = {"authorization": f"Bearer {api_key}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=base_url,
        headers=headers,
        timeout=60,
        trust_env=False,
        limits=limits,
        verify=False,  # noqa: S501
    ) as client:
        everybody_streams, leave = asyncio.Barrier(CALLERS + 1), asyncio.Event()
        callers = [asyncio.create_task(_call(client, everybody_streams, leave)) for _ in range(CALLERS)]
        await everybody_streams.wait()
        streaming = _resident_mib(host)
        started = time.perf_counter()
        leave.set()
        left = await asyncio.gather(*callers)
        for request_id in left:
            while (await client.get(f"/receipts/{request_id}")).status_code != httpx.codes.OK:  # noqa: ASYNC110 - another process settles  # noqa: ASYNC110 - settled elsewhere
                await asyncio.sleep(0.01)
        return time.perf_counter() - started, streaming


async def _call(client: httpx.AsyncClient, everybody_streams: asyncio.Barrier, leave: asyncio.Event) -> str:
    body = {"model": "echo", "messages": [{"role": "user", "content": "go on"}], "stream": True}
    async with client.stream("POST", "/chat/completions", json=body) as answer:
        async for _ in answer.aiter_lines():
            break
        await everybody_streams.wait()
        await leave.wait()
        return str(answer.headers["x-request-id"])


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 2**20
