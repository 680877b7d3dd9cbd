"""Wrong keys as fast as the gateway refuses them, and what a thousand streams hold while nothing comes."""

import asyncio
import json
import tempfile
from pathlib import Path

from tests.bench.load import WRONG_KEYS
from tests.bench.peer import body_of, our_gateway
from tests.bench.servers import Server, echo_engine, memory_mib, processor_seconds

Row = tuple[str, str]
SECONDS = 4.0
STREAMS = 1000
PAUSE_MS = 60_000


def bench_flood() -> list[Row]:
    """Rows of (what, figure)."""
    with (
        tempfile.TemporaryDirectory(prefix="pinaivu-bench-") as folder,
        echo_engine("tokens=8") as engine,
        our_gateway(Path(folder), engine) as gateway,
    ):
        return _wrong_keys(gateway)


def bench_idle_streams() -> list[Row]:
    """Rows of (what, figure)."""
    with tempfile.TemporaryDirectory(prefix="pinaivu-bench-") as folder:
        settings = f"tokens=2,token_interval_ms={PAUSE_MS}"
        with echo_engine(settings) as engine, our_gateway(Path(folder), engine, slots=STREAMS) as gateway:
            before = _memory(gateway)
            after = asyncio.run(_while_streaming(gateway))
    return [
        (
            f"memory of an idle stream, {STREAMS} at once: {name}",
            f"{(after[name] - before[name]) / STREAMS * 1024:.0f} KiB",
        )
        for name in before
    ]


def _wrong_keys(gateway: Server) -> list[Row]:
    pids = gateway.processes.values()
    gateway.measure(body_of(0.1), connections=32, seconds=SECONDS)
    started = processor_seconds(pids)
    right = gateway.measure(body_of(0.1), connections=32, seconds=SECONDS)
    between = processor_seconds(pids)
    changes = {"api_key": WRONG_KEYS, "expected_status": 401}
    wrong = gateway.measure(body_of(0.1), connections=32, seconds=SECONDS, **changes)
    ended = processor_seconds(pids)
    right_ms = (between - started) / len(right.latencies) * 1000
    wrong_ms = (ended - between) / len(wrong.latencies) * 1000
    return [
        ("wrong keys refused, each another one, 32 connections", f"{wrong.per_second:,.0f} /s"),
        (
            "processor time of a request, wrong key | right key | ratio",
            f"{wrong_ms:.2f} | {right_ms:.2f} ms | {wrong_ms / right_ms:.2f}",
        ),
    ]


async def _while_streaming(gateway: Server) -> dict[str, float]:
    """Memory while every stream has its first piece and waits for the second."""
    body = json.dumps(body_of(0.1, stream=True)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.api_key}\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    writers = await asyncio.gather(*(_begun(gateway.port, request) for _ in range(STREAMS)))
    found = _memory(gateway)
    for writer in writers:
        writer.transport.abort()
    return found


async def _begun(port: int, request: bytes) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    writer.write(request)
    await reader.readuntil(b"word0")
    return writer


def _memory(gateway: Server) -> dict[str, float]:
    return {name: memory_mib([pid]) for name, pid in gateway.processes.items()}
