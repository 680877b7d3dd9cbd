"""Awards: run the auction over the standing quotes, hold credit, write down the winner's terms (DESIGN section 3)."""

import msgspec

from pinaivu_enclave.core.jobs import Failure, Job, Phase
from pinaivu_enclave.core.keys import EpochKeys
from pinaivu_enclave.core.limits import (
    Prices,
    TokenLimits,
    estimated_completion_tokens,
    estimated_prompt_tokens,
    full_limits,
    least_prompt_tokens,
    limits_within,
)
from pinaivu_enclave.core.market_state import MarketState
from pinaivu_enclave.core.quote_book import Ineligible, QuoteBook, StandingQuote, bid_of
from pinaivu_enclave.core.tallies import Tallies
from pinaivu_shared.canonical import encode
from pinaivu_shared.configuration import Configuration, ModelTerms
from pinaivu_shared.ids import digest_of
from pinaivu_shared.money import charge_on, payment_within
from pinaivu_shared.second_score import Lot, Transcript, run_auction
from pinaivu_shared.signed import sign_as_enclave
from pinaivu_shared.terms import Award
from pinaivu_shared.wire.link import OpenJob


class _Offer(msgspec.Struct, frozen=True):
    """An auction that was held and can be paid for; nothing has changed yet."""

    transcript: Transcript
    raw: bytes
    winner: StandingQuote
    limits: TokenLimits
    cap: int


class AwardOffice:
    """Gives jobs away: takes the winner's slot and holds what the job may cost."""

    def __init__(
        self,
        configuration: Configuration,
        keys: EpochKeys,
        book: QuoteBook,
        state: MarketState,
        tallies: Tallies,
    ) -> None:
        self._configuration, self._keys = configuration, keys
        self._book, self._state, self._tallies = book, state, tallies

    def award(self, request: OpenJob, now_ms: int) -> Job | Ineligible:
        """The first award of a job, or why there is none."""
        found = self._offer(request, 1, frozenset(), now_ms)
        if isinstance(found, Ineligible):
            return found
        deadline_ms = now_ms + self._configuration.jobs.duration_ms
        award = self._terms(request, found, deadline_ms, now_ms)
        self._take(request, found)
        return Job(
            request=request,
            phase=Phase.AWARDED,
            award=award,
            signed_award=sign_as_enclave("award", encode(award), self._keys.receipt),
            public_key=self._state.nodes[award.node_id].public_key,
            context_length=self._book.context_length(found.winner.quote),
            shortened=found.limits.shortened,
            transcript=found.raw,
            bids=len(found.transcript.bids),
            deadline_ms=deadline_ms,
        )

    def award_again(self, job: Job, reason: str, now_ms: int) -> Job | None:
        """The job under a new award without the nodes that failed it; None when there is none to be had.

        The failed node's slot and the hold are freed only when another award is made; otherwise settlement frees them.
        """
        failed = Failure(job.award.node_id, reason, job.context_length)
        excluded = frozenset(one.node_id for one in (*job.failed, failed))
        if job.award.attempt >= self._configuration.jobs.attempts or now_ms >= job.deadline_ms:
            return None
        found = self._offer(
            job.request, job.award.attempt + 1, excluded, now_ms, own_hold=self._hold_of(job.award.payment_cap)
        )
        if isinstance(found, Ineligible):
            return None
        self._book.free_slot(job.award.node_id, job.award.model)
        self._state.ledger.release(job.request.request_id)
        self._take(job.request, found)
        job.award = self._terms(job.request, found, job.deadline_ms, now_ms)
        job.transcript, job.bids = found.raw, len(found.transcript.bids)
        job.signed_award = sign_as_enclave("award", encode(job.award), self._keys.receipt)
        job.public_key = self._state.nodes[job.award.node_id].public_key
        job.context_length = self._book.context_length(found.winner.quote)
        job.shortened = found.limits.shortened
        job.failed = (*job.failed, failed)
        return job

    def _hold_of(self, cap: int) -> int:
        """What an award with this cap on its payment may cost the customer."""
        return charge_on(cap, self._configuration.fee_bps)

    def _offer(
        self, request: OpenJob, attempt: int, excluded: frozenset[str], now_ms: int, *, own_hold: int = 0
    ) -> _Offer | Ineligible:
        eligible = self._book.eligible(
            request.model,
            needs=request.needs,
            prompt_tokens=least_prompt_tokens(request),
            excluded=excluded,
            now_ms=now_ms,
        )
        if isinstance(eligible, Ineligible):
            return eligible
        transcript = self._auction(request, attempt, eligible)
        winner = self._book.standing(request.model, transcript.bids[0].bid.node_id)
        prices = Prices(transcript.input_price, transcript.output_price)
        limits = self._affordable(request, winner, prices, own_hold, transcript.completion_tokens)
        if isinstance(limits, Ineligible):
            return limits
        return _Offer(transcript, encode(transcript), winner, limits, prices.cap(limits))

    def _affordable(
        self, request: OpenJob, winner: StandingQuote, prices: Prices, own_hold: int, expected: int
    ) -> TokenLimits | Ineligible:
        """Full limits where the account can pay for them, smaller ones for the last of its credit."""
        full = full_limits(
            request,
            context_length=self._book.context_length(winner.quote),
            template_allowance=self._configuration.metering.template_allowance,
        )
        ledger, fee_bps = self._state.ledger, self._configuration.fee_bps
        available = ledger.available(request.account) + own_hold
        if available >= charge_on(prices.cap(full), fee_bps):
            return full
        if ledger.held(request.account) > own_hold:
            return Ineligible("credit_held")
        found = limits_within(full, request, prices, payment_within(available, fee_bps), expected=expected)
        return found or Ineligible("insufficient_credit")

    def _auction(self, request: OpenJob, attempt: int, eligible: list[StandingQuote]) -> Transcript:
        terms = self._model(request)
        average = self._state.expected_completion_tokens(request.model, terms.expected_completion_tokens)
        lot = Lot(
            request_id=request.request_id,
            attempt=attempt,
            model=request.model,
            prompt_tokens=estimated_prompt_tokens(request),
            completion_tokens=estimated_completion_tokens(request, average),
            input_reserve_price=terms.input_reserve_price,
            output_reserve_price=terms.output_reserve_price,
        )
        return run_auction(lot, [bid_of(one, quality_bps=self._quality_bps(one)) for one in eligible])

    def _quality_bps(self, standing: StandingQuote) -> int:
        return self._state.quality.standing(standing.quote.node_id, self._configuration.nodes).quality_bps

    def _take(self, request: OpenJob, found: _Offer) -> None:
        self._state.ledger.hold(request.request_id, request.account, self._hold_of(found.cap))
        self._book.take_slot(found.winner.quote.node_id, request.model)
        self._tallies.count(found.transcript)

    def _terms(self, request: OpenJob, found: _Offer, deadline_ms: int, now_ms: int) -> Award:
        quote = found.winner.quote
        return Award(
            request_id=request.request_id,
            attempt=found.transcript.attempt,
            node_id=quote.node_id,
            session=quote.session,
            model=quote.model,
            request_commitment=request.request_commitment,
            forwarded_commitment=request.forwarded_commitment,
            request_bytes=request.request_bytes,
            quote=found.winner.digest,
            transcript=digest_of(found.raw),
            input_price=found.transcript.input_price,
            output_price=found.transcript.output_price,
            max_prompt_tokens=found.limits.prompt,
            max_completion_tokens=found.limits.completion,
            payment_cap=found.cap,
            awarded_ms=now_ms,
            first_token_by_ms=min(now_ms + self._configuration.jobs.first_token_ms, deadline_ms),
            deadline_ms=deadline_ms,
        )

    def _model(self, request: OpenJob) -> ModelTerms:
        terms = self._configuration.model(request.model)
        assert terms is not None, "OpenJob is refused for models that are not listed"
        return terms
