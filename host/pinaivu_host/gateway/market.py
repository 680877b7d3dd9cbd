"""What a job needs of the host: the coordinator, the nodes, the store, the queues for slots and for credit."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pinaivu_host.capacity import Capacity
from pinaivu_host.gateway.departure import Departure
from pinaivu_host.gateway.rate_limits import RateLimits
from pinaivu_host.gateway.recount import NO_RECOUNTS, Recounter
from pinaivu_host.link import EnclaveLink
from pinaivu_host.metrics import Metrics
from pinaivu_host.node_connections import NodeConnections
from pinaivu_host.store.evidence import EvidenceStore
from pinaivu_host.store.journal import Journal
from pinaivu_shared.wire.link import OpenJob

RECORD_KEPT_S: Final = 600.0
"""How long the owner of a job is remembered whose receipt did not come while the caller waited."""


class RunningJobs:
    """The callers whose jobs run now."""

    def __init__(self) -> None:
        self._running: set[Departure] = set()
        self._none = asyncio.Event()
        self._none.set()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._running)

    def begin(self, departure: Departure) -> None:
        """A job starts."""
        self._running.add(departure)
        self._none.clear()

    def end(self, departure: Departure) -> None:
        """A job is settled, or never came to an award."""
        self._running.discard(departure)
        if not self._running:
            self._none.set()

    def leave_all(self) -> None:
        """Cut every job short: this gateway is shutting down."""
        for departure in list(self._running):
            departure.leave("shutting_down")

    async def ended(self, limit_s: float) -> None:
        """Wait until none runs, or for `limit_s` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._none.wait()


@dataclass(slots=True)
class Market:
    """One for the whole gateway. `draining` says that no new jobs are taken.

    Requests wait for slots in `capacity`, by model and what they need, and for credit that others hold in `credit`, by
    account. `context_lengths` are, by model, the most tokens that count of a node's context (the configuration's).
    """

    link: EnclaveLink
    journal: Journal
    nodes: NodeConnections
    capacity: Capacity
    credit: Capacity
    evidence: EvidenceStore
    queue_s: float
    metrics: Metrics
    limits: RateLimits
    context_lengths: Mapping[str, int]
    recounter: Recounter = NO_RECOUNTS
    jobs: RunningJobs = field(default_factory=RunningJobs)
    draining: bool = False

    def settled(self, job: OpenJob) -> None:
        """The job holds nothing any more: neither a slot nor credit."""
        self.capacity.freed(job.model)
        self.credit.freed(job.account)
