"""Offers in, jobs out: which award is run, which is declined and why, and which jobs are running."""

import logging
from collections import Counter
from contextlib import suppress

import trio

from pinaivu_node.awards import AwardCheck, CheckedAward, InvalidAwardError, named_award
from pinaivu_node.engine_pool import EnginePool, Served
from pinaivu_node.job import Job, StopReason, Workplace
from pinaivu_shared.wire.node import Decline, DeclineReason, Offer

logger = logging.getLogger(__name__)


class Dispatch:
    """The jobs of one session. It runs them in the nursery of the session."""

    def __init__(self, check: AwardCheck, pool: EnginePool, workplace: Workplace, nursery: trio.Nursery) -> None:
        self._check, self._pool, self._workplace, self._nursery = check, pool, workplace, nursery
        self._running: dict[str, Job] = {}
        self._of_model, self._of_engine = Counter[str](), Counter[int]()
        self._emptied = trio.Event()
        self._emptied.set()
        self._draining = False

    def running(self) -> int:
        """How many jobs run now."""
        return len(self._running)

    async def offer(self, offer: Offer) -> None:
        """Run this offer, or decline it. PeerError when it holds no award at all."""
        try:
            checked = self._check.check(offer, now_ms=self._workplace.now_ms())
        except InvalidAwardError as error:
            await self._decline(named_award(offer).request_id, "invalid_award", f"{error.check}: {error.detail}")
            return
        request_id, served = checked.award.request_id, self._pool.serving(checked.award.model)
        if self._draining:
            await self._decline(request_id, "draining")
        elif served is None:
            await self._decline(request_id, "engine_unavailable")
        elif self._is_busy(checked, served):
            await self._decline(request_id, "busy")
        else:
            logger.info("job begins", extra={"kv": {"request_id": request_id, "model": checked.award.model}})
            self._begin(Job(checked, self._workplace), request_id, served)

    def cancel(self, request_id: str) -> None:
        """Stop this job; nothing happens when it has ended meanwhile."""
        if job := self._running.get(request_id):
            job.stop("cancelled")

    async def drain(self, patience_seconds: float) -> None:
        """Take no more offers, and return when all jobs have ended: by themselves in time, by force after it."""
        self._draining = True
        with trio.move_on_after(patience_seconds):
            await self._emptied.wait()
        self._stop_all("draining")
        await self._emptied.wait()

    def _stop_all(self, reason: StopReason) -> None:
        for job in self._running.values():
            job.stop(reason)

    def _is_busy(self, checked: CheckedAward, served: Served) -> bool:
        """Whether all slots are taken: those quoted for the model, or those of the engine that its models share.

        The latter happens only around a change of slots, while jobs of more slots than there are now still run.
        """
        return (
            self._of_model[served.model.name] >= checked.quote.slots or self._of_engine[served.number] >= served.slots
        )

    def _begin(self, job: Job, request_id: str, served: Served) -> None:
        self._running[request_id] = job
        self._of_model[served.model.name] += 1
        self._of_engine[served.number] += 1
        self._emptied = trio.Event()
        self._nursery.start_soon(self._run, request_id, job, served)

    async def _run(self, request_id: str, job: Job, served: Served) -> None:
        try:
            await job.run(served)
        finally:
            del self._running[request_id]
            self._of_model[served.model.name] -= 1
            self._of_engine[served.number] -= 1
            if not self._running:
                self._emptied.set()

    async def _decline(self, request_id: str, reason: DeclineReason, detail: str = "") -> None:
        logger.warning("award declined", extra={"kv": {"request_id": request_id, "reason": reason, "detail": detail}})
        with suppress(trio.ClosedResourceError):  # an offer that crossed our leaving
            await self._workplace.send(Decline(request_id, reason, detail))
