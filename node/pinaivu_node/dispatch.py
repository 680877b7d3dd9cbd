"""Offers in, jobs out: which award is run, which is declined and why, and which jobs are running."""

import logging
from contextlib import suppress

import trio

from pinaivu_node.awards import AwardCheck, InvalidAwardError, named_award
from pinaivu_node.engines.discovery import ServedModel
from pinaivu_node.engines.openai import OpenAIEngine
from pinaivu_node.engines.supervisor import EngineSupervisor
from pinaivu_node.job import Job, StopReason, Workplace
from pinaivu_shared.wire.node import Decline, DeclineReason, Offer

logger = logging.getLogger(__name__)


class Dispatch:
    """The jobs of one session. It runs them in the nursery of the session."""

    def __init__(
        self, check: AwardCheck, supervisor: EngineSupervisor, workplace: Workplace, nursery: trio.Nursery
    ) -> None:
        self._check, self._supervisor, self._workplace, self._nursery = check, supervisor, workplace, nursery
        self._running: dict[str, Job] = {}
        self._emptied = trio.Event()
        self._emptied.set()
        self._draining = False

    async def offer(self, offer: Offer) -> None:
        """Run this offer, or decline it. PeerError when it holds no award at all."""
        try:
            checked = self._check.check(offer, now_ms=self._workplace.now_ms())
        except InvalidAwardError as error:
            await self._decline(named_award(offer).request_id, "invalid_award", f"{error.check}: {error.detail}")
            return
        request_id, offering = checked.award.request_id, self._supervisor.offering
        model = offering.model(checked.award.model) if offering else None
        if self._draining:
            await self._decline(request_id, "draining")
        elif offering is None or model is None:
            await self._decline(request_id, "engine_unavailable")
        elif len(self._running) >= checked.quote.slots:
            await self._decline(request_id, "busy")
        else:
            logger.info("job begins", extra={"kv": {"request_id": request_id, "model": checked.award.model}})
            job = Job(checked, self._workplace)
            self._nursery.start_soon(self._run, request_id, job, offering.engine, model)
            self._running[request_id] = job
            self._emptied = trio.Event()

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

    async def _run(self, request_id: str, job: Job, engine: OpenAIEngine, model: ServedModel) -> None:
        try:
            await job.run(engine, model)
        finally:
            del self._running[request_id]
            if not self._running:
                self._emptied.set()

    async def _decline(self, request_id: str, reason: DeclineReason, detail: str = "") -> None:
        logger.warning("award declined", extra={"kv": {"request_id": request_id, "reason": reason, "detail": detail}})
        with suppress(trio.ClosedResourceError):  # an offer that crossed our leaving
            await self._workplace.send(Decline(request_id, reason, detail))
