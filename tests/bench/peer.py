"""Our gateway beside LiteLLM's proxy: the same engine behind both, the same load on both, in turns in one run.

Ours are three processes that do all they do in production: keys, credit, auction, signed receipts, the log in SQLite.
LiteLLM is one worker that checks a key. The machine is shared by both, the engine and the generator of the load.
"""

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Protocol

from tests.bench.load import Measured
from tests.bench.servers import Server, echo_engine, install_litellm, litellm, memory_mib
from tests.network.conftest import pids_of, running

Row = tuple[str, str]
ROUNDS = 3
SECONDS = 1.5
WARM_SECONDS = 1.0
PIECES = 32
SLOTS = 200
GOAL = 3.0
BODY_KB = (0.1, 10, 300)
PERCENTILES = (50, 99)


class Take(Protocol):
    """A figure from what was measured at a server and, in the same round, at the engine."""

    def __call__(self, seen: Measured, direct: Measured, /) -> float:
        """In the figure's unit."""


@dataclass(frozen=True)
class Figure:
    """A row: what it is called, its unit, and how it is taken."""

    name: str
    unit: str
    take: Take
    more_is_better: bool = False


@dataclass(frozen=True)
class Measurement:
    """One load, and the rows that come of it."""

    body: dict[str, object]
    connections: int
    figures: tuple[Figure, ...]


def bench_peer() -> list[Row]:
    """Rows of (what, figure)."""
    version = install_litellm()
    with tempfile.TemporaryDirectory(prefix="pinaivu-bench-") as made, echo_engine(f"tokens={PIECES}") as engine:
        folder = Path(made)
        with our_gateway(folder / "network", engine) as ours, litellm(folder, engine) as theirs:
            for server in (engine, ours, theirs):
                for measurement in measurements():  # whatever is loaded at a first request is loaded now
                    _measured(measurement, server, WARM_SECONDS)
            rows: list[Row] = []
            for measurement in measurements():
                rows += _compare(measurement, engine, ours, theirs)
                print(*rows[-len(measurement.figures) :], sep="\n", file=sys.stderr, flush=True)
            return [("gateway beside LiteLLM", f"LiteLLM {version}, {machine()}"), *rows, *_memory(ours, theirs)]


def machine() -> str:
    """Processor, cores, load and Python of this run."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    busy = f"load {os.getloadavg()[0]:.1f} at the end"
    return f"{processor}, {os.cpu_count()} cores shared by all processes, {busy}, Python {platform.python_version()}"


@contextmanager
def our_gateway(folder: Path, engine: Server, *, slots: int = SLOTS) -> Iterator[Server]:
    """A whole network with one node, in front of the engine."""
    with running(folder, f"http://127.0.0.1:{engine.port}", nodes=1, slots=slots) as network:
        pids = pids_of(folder)
        processes = {"host": pids["host"], "enclave": pids["enclave"], "node": pids["nodes"][0]}
        port = int(network["base_url"].rpartition(":")[2].partition("/")[0])
        yield Server("Pinaivu", port, network["api_key"], processes)


def body_of(kilobytes: float, **fields: object) -> dict[str, object]:
    """A request of about this size, for a short answer unless the fields say otherwise."""
    words = "lorem " * max(1, round(kilobytes * 1000 / 6))
    return {"model": "echo", "messages": [{"role": "user", "content": words}], "max_tokens": 8} | fields


def measurements() -> list[Measurement]:
    """All of them."""
    throughput = Figure("requests/s, 32 connections", "/s", lambda seen, _: seen.per_second, more_is_better=True)
    streams = Figure(
        "engine's pieces/s, 64 streams", "/s", lambda seen, _: seen.pieces / seen.seconds, more_is_better=True
    )
    first = tuple(
        Figure(f"time to first token p{at}, 4 connections", "ms", partial(_first_token, at)) for at in PERCENTILES
    )
    return [
        Measurement(body_of(0.1), 32, (throughput,)),
        *(Measurement(body_of(size), 4, _latency_rows(size)) for size in BODY_KB),
        Measurement(body_of(0.1, stream=True), 4, first),
        Measurement(body_of(0.1, stream=True, max_tokens=PIECES), 64, (streams,)),
    ]


def _latency_rows(kilobytes: float) -> tuple[Figure, ...]:
    name = f"body of {kilobytes:g} KB, 4 connections"
    return tuple(Figure(f"added latency p{at}, {name}", "ms", partial(_added_latency, at)) for at in PERCENTILES)


def _added_latency(percentile: int, seen: Measured, direct: Measured) -> float:
    return _ms(seen.latencies, percentile) - _ms(direct.latencies, percentile)


def _first_token(percentile: int, seen: Measured, _: Measured) -> float:
    return _ms(seen.first_pieces, percentile)


def _compare(measurement: Measurement, engine: Server, ours: Server, theirs: Server) -> list[Row]:
    values: dict[tuple[str, str], list[float]] = {}
    for number in range(ROUNDS):
        direct = _measured(measurement, engine)
        for server in (ours, theirs) if number % 2 == 0 else (theirs, ours):
            seen = _measured(measurement, server)
            for figure in measurement.figures:
                values.setdefault((figure.name, server.name), []).append(figure.take(seen, direct))
    return [
        _row(figure, median(values[figure.name, ours.name]), median(values[figure.name, theirs.name]))
        for figure in measurement.figures
    ]


def _measured(measurement: Measurement, server: Server, seconds: float = SECONDS) -> Measured:
    return server.measure(measurement.body, connections=measurement.connections, seconds=seconds)


def _row(figure: Figure, ours: float, theirs: float) -> Row:
    ratio = ours / theirs if figure.more_is_better else theirs / ours
    return figure.name, f"{ours:,.1f} | {theirs:,.1f} {figure.unit} | {_judged(ratio)}"


def _judged(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio >= GOAL else f"{ratio:.1f}x, below the goal of {GOAL:g}x"


def _memory(ours: Server, theirs: Server) -> list[Row]:
    host = memory_mib([ours.processes["host"]])
    whole, other = memory_mib(ours.processes.values()), memory_mib(theirs.processes.values())
    return [
        ("memory after the run, our host process", f"{host:,.0f} | {other:,.0f} MiB | {_judged(other / host)}"),
        (
            "memory after the run, our host, enclave and node",
            f"{whole:,.0f} | {other:,.0f} MiB | {_judged(other / whole)}",
        ),
    ]


def _ms(latencies: list[float], percentile: int) -> float:
    assert len(latencies) > 1, "hardly an answer came in time: measure longer"
    return quantiles(latencies, n=100)[percentile - 1] * 1000
