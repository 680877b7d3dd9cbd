"""One job: an award that was checked, run on the engine, streamed to the gateway and proved.

As long as no delta was sent, a failure is a decline, and the market gives the job to another node. After the first
delta it is a proof with outcome `failed`, for which nothing is owed.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final, Literal

import msgspec
import trio

from pinaivu_node.assembly import Assembly
from pinaivu_node.awards import CheckedAward
from pinaivu_node.deltas import deltas_of
from pinaivu_node.engine_pool import Served
from pinaivu_node.engines.events import NO_USAGE, EngineError, Event
from pinaivu_node.engines.request import engine_request, with_json_grammar
from pinaivu_node.keys import Identity
from pinaivu_node.quotes import Sequence
from pinaivu_shared.canonical import encode
from pinaivu_shared.signed import Signed, sign_as_node
from pinaivu_shared.terms import PROMPT_TOKENS_PER_BYTE_MAX, Acceptance, Proof
from pinaivu_shared.wire.node import Accept, Decline, DeclineReason, FromNode, Prove

Send = Callable[[FromNode], Awaitable[None]]
StopReason = Literal["cancelled", "draining"]
logger = logging.getLogger(__name__)
_MAX_DETAIL: Final = 500


class ProvenJob(msgspec.Struct, frozen=True):
    """The enclave's award and the node's proof: the evidence of a node that was not paid."""

    award: Signed
    proof: Signed


class Workplace(msgspec.Struct, frozen=True):
    """What all jobs of a session share."""

    identity: Identity
    sequence: Sequence
    send: Send
    now_ms: Callable[[], int]
    keep: Callable[[ProvenJob], None]


class _Ending(msgspec.Struct, frozen=True):
    """How a run ended: whole when there is no reason."""

    outcome: Literal["completed", "cancelled", "failed"]
    reason: str = ""
    decline: Decline | None = None


class Job:
    """One run of one award. `stop` may be called at any time."""

    def __init__(self, checked: CheckedAward, workplace: Workplace) -> None:
        self._checked, self._award, self._workplace = checked, checked.award, workplace
        self._scope = trio.CancelScope()
        self._stopped: StopReason | None = None
        self._assembly = Assembly()
        self._usage = NO_USAGE
        self._arrived, self._first_token_ms = trio.current_time(), 0

    def stop(self, reason: StopReason) -> None:
        """Close the engine's connection now and prove what was generated."""
        if self._stopped is None:
            self._stopped = reason
            self._scope.cancel()

    async def run(self, served: Served) -> None:
        """Accept, run the engine, and prove or decline."""
        await self._workplace.send(self._acceptance())
        ending = await self._generate(served)
        message = ending.decline or self._proof(ending)
        if isinstance(message, Prove):
            self._workplace.keep(ProvenJob(self._checked.signed, message.proof))
        await self._workplace.send(message)
        counts = {"prompt_tokens": self._usage.prompt_tokens, "completion_tokens": self._usage.completion_tokens}
        told = {"request_id": self._award.request_id, "outcome": ending.outcome, "reason": ending.reason, **counts}
        logger.info("job declined" if ending.decline else "job proved", extra={"kv": told})

    async def _generate(self, served: Served) -> _Ending:
        self._scope.deadline = self._deadline(min(self._award.first_token_by_ms, self._award.deadline_ms))
        try:
            with self._scope:
                await self._stream(served)
        except EngineError as error:
            served.report(error)
            if error.reason == "engine_unavailable":  # of a request's faults the detail is the engine's text
                told = {"request_id": self._award.request_id, "status": error.status, "detail": error.detail}
                logger.warning("engine failed; its own log may say why", extra={"kv": told})
            return self._failed(error.reason, error.reason, error.detail)
        if not self._scope.cancelled_caught:
            return _Ending("completed")
        if self._stopped == "cancelled":
            return _Ending("cancelled", "cancelled")
        if self._stopped == "draining":
            return self._failed("draining", "draining")
        return self._failed("engine_unavailable", "deadline")

    async def _stream(self, served: Served) -> None:
        limit, model = self._award.max_completion_tokens, served.model
        request = engine_request(
            self._checked.request,
            model=model.engine_name,
            limit=limit,
            extras=model.extras,
            capabilities=model.capabilities,
        )
        self._assembly = Assembly(request.choices)
        async with served.engine.answer(with_json_grammar(request, model.json_grammar)) as answer:
            try:
                async for events in answer:
                    for event in events:
                        await self._deliver(event)
            finally:
                self._usage = answer.usage

    async def _deliver(self, event: Event) -> None:
        """Send its deltas; only what the connection took is part of the answer."""
        for delta in deltas_of(self._award.request_id, event):
            await self._workplace.send(delta)
            if not self._assembly.begun:
                self._first_token_ms = self._elapsed_ms()
                self._scope.deadline = self._deadline(self._award.deadline_ms)
            self._assembly.add(delta)

    def _failed(self, declined: DeclineReason, reason: str, detail: str = "") -> _Ending:
        """A decline while another node can still answer, a proof of failure after that.

        What an engine says of itself stays here; what it says of the request is the caller's to know.
        """
        if self._assembly.begun:
            return _Ending("failed", reason)
        shown = detail[:_MAX_DETAIL] if declined in {"context_length_exceeded", "unsupported_request"} else ""
        return _Ending("failed", reason, Decline(self._award.request_id, declined, shown))

    def _acceptance(self) -> Accept:
        acceptance = Acceptance(
            request_id=self._award.request_id,
            node_id=self._workplace.identity.node_id,
            session=self._award.session,
            award=self._checked.digest,
        )
        signed = sign_as_node("acceptance", encode(acceptance), self._workplace.identity.key)
        return Accept(self._award.request_id, signed)

    def _proof(self, ending: _Ending) -> Prove:
        proof = Proof(
            request_id=self._award.request_id,
            node_id=self._workplace.identity.node_id,
            session=self._award.session,
            sequence=self._workplace.sequence.next(),
            public_key=self._workplace.identity.public_key.hex(),
            award=self._checked.digest,
            outcome=ending.outcome,
            reason=ending.reason,
            # More is not paid anyway, and must not make the claim absurd: engines count images, or beyond their limit.
            prompt_tokens=min(self._usage.prompt_tokens, PROMPT_TOKENS_PER_BYTE_MAX * self._award.request_bytes),
            completion_tokens=min(self._usage.completion_tokens, self._award.max_completion_tokens),
            forwarded_commitment=self._award.forwarded_commitment,
            response_commitment=self._assembly.commitment(self._checked.salt),
            first_token_ms=self._first_token_ms,
            duration_ms=self._elapsed_ms(),
        )
        return Prove(self._award.request_id, sign_as_node("proof", encode(proof), self._workplace.identity.key))

    def _deadline(self, at_ms: int) -> float:
        """A wall-clock time of the award on trio's clock."""
        return trio.current_time() + (at_ms - self._workplace.now_ms()) / 1000

    def _elapsed_ms(self) -> int:
        return round((trio.current_time() - self._arrived) * 1000)
