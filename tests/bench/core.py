"""The coordinator without I/O: commands per second, and its cost beside the bare cryptography of the same job."""

import functools
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from tests.enclave.market import Market, Node

from pinaivu_shared.signed import sign_p256
from pinaivu_shared.wire import link

JOBS = 300
ROUNDS = 9
COMMANDS_PER_JOB = 3


def bench_core() -> list[tuple[str, str]]:
    """Rows of (what, figure). Bare and whole are measured in turns, so that a drifting machine moves both."""
    market = Market()
    nodes = {}
    for number in range(3):
        node = Node(market, f"node-{number}").register().quote(20_000 + number, 60_000, slots=JOBS + 1)
        nodes[node.node_id] = node
    bare, whole = [], []
    for _ in range(ROUNDS):
        bare.append(_seconds(lambda: _bare_cryptography(market, next(iter(nodes.values())))) / JOBS)
        whole.append(_settled_jobs(market, nodes) / JOBS)
        market.now_ms += 20_000
        for node in nodes.values():
            node.quote(20_000, 60_000, slots=JOBS + 1)
    ratios = [one / other for one, other in zip(whole, bare, strict=True)]
    return [
        ("settled jobs per second and core, enclave core", f"{1 / median(whole):,.0f}"),
        ("commands per second and core, enclave core", f"{COMMANDS_PER_JOB / median(whole):,.0f}"),
        ("bare cryptography of a job (2 P-256 signatures, 2 Ed25519 verifications)", f"{median(bare) * 1e6:,.0f} µs"),
        ("core cost of a job / bare cryptography", f"{median(ratios):.2f}"),
    ]


def _settled_jobs(market: Market, nodes: dict[str, Node]) -> float:
    spent = 0.0
    for _ in range(JOBS):
        awarded, seconds = _timed(market.open_job)
        spent += seconds
        node = nodes[awarded.node_id]
        accept, settle = node.accept(awarded), node.completed(awarded)
        for command in (accept, settle):
            _, seconds = _timed(functools.partial(market.coordinator.apply, command, market.now_ms))
            spent += seconds
    market.leaves.extend(leaf.leaf for leaf in market.coordinator._journal.unacknowledged()[-JOBS:])
    market.coordinator.apply(link.AcknowledgeLeaves(market.coordinator._journal.size), market.now_ms)
    return spent


def _bare_cryptography(market: Market, node: Node) -> None:
    keys = market.boot._keys
    assert keys is not None
    payload = os.urandom(700)
    signature = node.key.sign(payload)
    public_key = node.key.public_key()
    for _ in range(JOBS):
        sign_p256(payload, keys.receipt)
        sign_p256(payload, keys.receipt)
        public_key.verify(signature, payload)
        public_key.verify(signature, payload)


def _seconds(work: Callable[[], object]) -> float:
    return _timed(work)[1]


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started
