"""One award at one node: from the offer to the node's proof.

Everything the node says, its disconnect, the caller's departure and the passing of time arrive at one place, `run`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

from pinaivu_host.errors import CommandRefusedError, CoordinatorUnavailableError
from pinaivu_host.gateway.answer_rules import AnswerRules, answer_bytes_max
from pinaivu_host.gateway.delivery import CallerStalledError, Sink
from pinaivu_host.gateway.departure import CallerLeftError, Departure
from pinaivu_host.gateway.market import Market
from pinaivu_host.gateway.order import Order
from pinaivu_host.job_channel import JobChannel, JobMessage
from pinaivu_shared.canonical import decode
from pinaivu_shared.signed import Signed
from pinaivu_shared.terms import Award
from pinaivu_shared.wire.link import AcceptAward, AwardAccepted, Awarded, Done, EndSession, ReportFirstToken
from pinaivu_shared.wire.node import Accept, Decline, Delta, Prove

logger = logging.getLogger(__name__)
PROOF_LIMIT_S: Final = 5.0
"""How long a node may take to prove what it generated, once it has finished or was told to stop."""
SLOW_CALLER_S: Final = 1.0
"""A write to the caller that takes longer is why a channel overflows; in less time no engine fills one."""


class AttemptFailedError(Exception):
    """The node failed before its first token: another may try. `reason` goes to the enclave."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AnswerBrokenError(Exception):
    """The node failed after its first token: the answer cannot be completed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DeclinedError(Exception):
    """The node will not run it, and it is the caller's mistake."""

    def __init__(self, decline: Decline) -> None:
        super().__init__(decline.reason)
        self.decline = decline


class Attempt:
    """The state of one award. `proof` is the node's last word, `first_token_at` when a first token came."""

    def __init__(self, market: Market, order: Order, awarded: Awarded, sink: Sink, departure: Departure) -> None:
        self._market, self._order, self._awarded = market, order, awarded
        self._sink, self._departure = sink, departure
        self._loop = asyncio.get_running_loop()
        award = decode(awarded.award.payload, Award, check="award")
        now = self._loop.time()
        self._first_token_by = now + (award.first_token_by_ms - award.awarded_ms) / 1000
        self._deadline = now + (award.deadline_ms - award.awarded_ms) / 1000
        self._wake: Callable[[], None] = _nobody
        self._accepted = False
        self._refused = ""
        self._rules, self._bytes_max = AnswerRules(order), answer_bytes_max(order, award)
        self._telling: asyncio.Task[None] | None = None
        self.answer = order.ask.new_answer()
        self.first_token_at: float | None = None
        self.proof: Signed | None = None

    @property
    def answering(self) -> bool:
        """Whether a first token came."""
        return self.first_token_at is not None

    async def run(self) -> None:
        """Relay the answer to the sink, all but its end.

        On return every choice has its finish_reason and `proof` is set. Raises AttemptFailedError, AnswerBrokenError,
        DeclinedError or CallerLeftError otherwise.
        """
        channel = self._offer()
        try:
            await self._relay_all(channel)
        except CallerLeftError:
            await self._stop(channel)
            raise
        finally:
            await self._close(channel)
        if self._refused:  # an answer may be quicker than the enclave's word on its acceptance
            raise self._failure(self._refused)

    async def _relay_all(self, channel: JobChannel) -> None:
        while self.proof is None:
            await channel.wait(self._patience_s())
            self._check_departure()
            messages, ended, now = channel.take(), channel.closed, self._loop.time()
            if channel.heard_bytes > self._bytes_max:
                raise self._failure("answer_too_long")
            await self._relay(channel, self._hear(messages))
            # What happens while the caller is written to is heard first and judged then: a slow caller proves nothing.
            self._check_progress(channel, ended=ended, now=now)
            await self._hand_on(channel, self._sink.keep_alive())

    async def _stop(self, channel: JobChannel) -> None:
        """Have the node stop, and wait a little for its proof; what it still generates is dropped."""
        channel.cancel()
        until = self._loop.time() + PROOF_LIMIT_S
        while not (self._last_word(channel.take()) or channel.closed or self._loop.time() >= until):
            await channel.wait(until - self._loop.time())

    async def _close(self, channel: JobChannel) -> None:
        """The node runs nothing any more. What the enclave is told of this award reaches it before any settlement."""
        channel.cancel()
        channel.close()
        if self._telling is not None:
            await self._telling

    def _offer(self) -> JobChannel:
        channel = self._market.nodes.offer(self._awarded, self._order.forwarded, self._order.salt)
        if channel is None:
            # The enclave has not heard that this node is gone, or has forgotten it over a broken link.
            self._tell(self._end_session())
            raise AttemptFailedError("node_disconnected")
        self._wake = channel.wake
        self._departure.attend(channel.wake)
        return channel

    def _tell(self, news: Coroutine[None, None, None]) -> None:
        """Tell the enclave one thing after the other; the stream does not wait for it."""
        self._telling = self._loop.create_task(_after(self._telling, news))

    async def _end_session(self) -> None:
        try:
            await self._market.link.call(EndSession(self._awarded.session), Done)
        except (CommandRefusedError, CoordinatorUnavailableError) as error:
            logger.info("session not ended", extra={"kv": {"error": str(error)}})

    def _patience_s(self) -> float:
        until = self._deadline if self.answering else min(self._first_token_by, self._deadline)
        return min(until, self._sink.silent_until) - self._loop.time()

    def _check_departure(self) -> None:
        if self._departure.reason:
            raise CallerLeftError

    def _hear(self, messages: list[JobMessage]) -> list[Delta]:
        """The pieces of the answer among what the node said; everything else is acted upon."""
        deltas: list[Delta] = []
        for message in messages:
            match message:
                case Delta() if self._begins_or_goes_on(message):
                    deltas.append(message)
                case Accept():
                    self._forward_acceptance(message)
                case Decline():
                    self._take_decline(message)
                case Prove():
                    self.proof = message.proof
        return deltas

    def _last_word(self, messages: list[JobMessage]) -> bool:
        """Whether the node has proven what it did; its pieces of the answer come too late."""
        for message in messages:
            if isinstance(message, Prove):
                self.proof = message.proof
            elif isinstance(message, Accept):
                self._forward_acceptance(message)
        return self.proof is not None

    def _begins_or_goes_on(self, delta: Delta) -> bool:
        """Whether the answer has begun; nothing that comes before its first token is anybody's to see."""
        if not (self._accepted and self._rules.takes(delta)):
            raise self._failure("protocol_violation")
        if not self.answering and self._rules.begins(delta):
            self.first_token_at = self._loop.time()
            self._tell(self._report_first_token())
        if self._rules.finished:
            self._deadline = min(self._deadline, self._loop.time() + PROOF_LIMIT_S)
        return self.answering

    def _take_decline(self, decline: Decline) -> None:
        """A decline answers an offer. What has begun can only be proven, or has failed."""
        if self.answering:
            raise AnswerBrokenError("node_failed")
        if decline.reason in {"context_length_exceeded", "unsupported_request"}:
            raise DeclinedError(decline)
        raise AttemptFailedError(decline.reason)

    def _forward_acceptance(self, accept: Accept) -> None:
        """Streaming does not wait for the enclave's answer, but a refusal ends the job."""
        if self._accepted:
            return
        self._accepted = True
        self._tell(self._accept(accept.acceptance))

    async def _accept(self, acceptance: Signed) -> None:
        try:
            await self._market.link.call(AcceptAward(self._order.command.request_id, acceptance), AwardAccepted)
        except CommandRefusedError:
            self._refused = "acceptance_refused"
        except CoordinatorUnavailableError:
            self._refused = "coordinator_unavailable"
        if self._refused:
            self._wake()

    async def _report_first_token(self) -> None:
        """From here on the enclave gives the job to no other node. The job goes on without that being known."""
        if self._refused:
            return
        request_id, attempt = self._awarded.request_id, self._awarded.attempt
        try:
            await self._market.link.call(ReportFirstToken(request_id, attempt), Done)
        except (CommandRefusedError, CoordinatorUnavailableError) as error:
            logger.warning("first token not noted", extra={"kv": {"request_id": request_id, "error": str(error)}})

    async def _relay(self, channel: JobChannel, deltas: list[Delta]) -> None:
        if deltas:
            await self._hand_on(channel, self._sink.relay(deltas, self.answer))

    async def _hand_on(self, channel: JobChannel, writing: Awaitable[None]) -> None:
        """Write to the caller. What overflows because he does not read is his doing, not the node's."""
        began = self._loop.time()
        try:
            await writing
        except CallerStalledError:
            self._departure.leave("client_stalled")
        if channel.overflowed_at is not None and channel.overflowed_at - began > SLOW_CALLER_S:
            self._departure.leave("client_stalled")
        self._check_departure()

    def _check_progress(self, channel: JobChannel, *, ended: bool, now: float) -> None:
        """Whether the node did its part in what was heard of it until `now`; `ended` if that was its last word."""
        if channel.overflowed_at is not None:
            raise self._failure("overflow")
        if self.proof is not None:
            if not self._rules.finished:
                raise self._failure("node_failed")
        elif self._refused:
            raise self._failure(self._refused)
        elif ended:
            raise self._failure("node_disconnected")
        elif self._rules.finished and now >= self._deadline:
            raise self._failure("no_proof")
        elif now >= self._deadline or (not self.answering and now >= self._first_token_by):
            raise self._failure("timeout")

    def _failure(self, reason: str) -> AttemptFailedError | AnswerBrokenError:
        return AnswerBrokenError(reason) if self.answering else AttemptFailedError(reason)


async def _after(former: asyncio.Task[None] | None, news: Coroutine[None, None, None]) -> None:
    if former is not None:
        await former
    await news


def _nobody() -> None:
    """Nothing waits yet."""
