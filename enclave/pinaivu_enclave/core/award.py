"""Awards: run the auction over the standing quotes and write down the winner's terms (DESIGN sections 3 and 4)."""

from typing import Final

from pinaivu_enclave.core.auction import Ineligible, QuoteBook, StandingQuote, bid_of
from pinaivu_enclave.core.jobs import Job, Phase
from pinaivu_enclave.core.keys import EpochKeys
from pinaivu_enclave.core.market_state import MarketState
from pinaivu_shared.canonical import encode
from pinaivu_shared.configuration import Configuration, ModelTerms
from pinaivu_shared.ids import digest_of
from pinaivu_shared.money import amount_owed
from pinaivu_shared.second_score import Lot, Transcript, run_auction
from pinaivu_shared.signed import sign_as_enclave
from pinaivu_shared.terms import Award
from pinaivu_shared.wire.link import OpenJob

BYTES_PER_TOKEN: Final = 4
"""Rough length of a token in UTF-8 bytes of the request, for the auction's estimate only; nothing is billed by it."""
BYTES_PER_TOKEN_MIN: Final = 2
"""Prompts are seldom denser: what this leaves of the context is safe to allow where the caller names no limit."""
BYTES_PER_TOKEN_MAX: Final = 8
"""A prompt this sparse hardly exists: a request whose bytes over this exceed the context certainly does not fit."""


class AwardOffice:
    """Gives jobs away. Holds no state of its own."""

    def __init__(self, configuration: Configuration, keys: EpochKeys, book: QuoteBook, state: MarketState) -> None:
        self._configuration, self._keys = configuration, keys
        self._book, self._state = book, state

    def award(self, request: OpenJob, now_ms: int) -> Job | Ineligible:
        """The first award of a job, its slot taken, or why there is none."""
        eligible = self._eligible(request, frozenset(), now_ms)
        if isinstance(eligible, Ineligible):
            return eligible
        deadline_ms = now_ms + self._configuration.jobs.duration_ms
        transcript = self._auction(request, 1, eligible)
        raw = encode(transcript)
        award = self._terms(request, transcript, raw, deadline_ms, now_ms)
        return Job(
            request=request,
            phase=Phase.AWARDED,
            award=award,
            signed_award=sign_as_enclave("award", encode(award), self._keys.receipt),
            public_key=self._state.nodes[award.node_id].public_key,
            transcript=raw,
            bids=len(transcript.bids),
            deadline_ms=deadline_ms,
        )

    def award_again(self, job: Job, now_ms: int) -> Job | None:
        """The job under a new award without the nodes that failed it; None when there is none to be had.

        The failed node's slot is freed only when another award is made; otherwise settlement frees it.
        """
        failed = job.failed | {job.award.node_id}
        if job.award.attempt >= self._configuration.jobs.attempts or now_ms >= job.deadline_ms:
            return None
        eligible = self._eligible(job.request, failed, now_ms)
        if isinstance(eligible, Ineligible):
            return None
        attempt = job.award.attempt + 1
        self._book.free_slot(job.award.node_id, job.award.model)
        transcript = self._auction(job.request, attempt, eligible)
        job.transcript, job.bids = encode(transcript), len(transcript.bids)
        job.award = self._terms(job.request, transcript, job.transcript, job.deadline_ms, now_ms)
        job.signed_award = sign_as_enclave("award", encode(job.award), self._keys.receipt)
        job.public_key = self._state.nodes[job.award.node_id].public_key
        job.failed = failed
        return job

    def _eligible(self, request: OpenJob, excluded: frozenset[str], now_ms: int) -> list[StandingQuote] | Ineligible:
        least = request.request_bytes // BYTES_PER_TOKEN_MAX
        return self._book.eligible(request.model, prompt_tokens=least, excluded=excluded, now_ms=now_ms)

    def _auction(self, request: OpenJob, attempt: int, eligible: list[StandingQuote]) -> Transcript:
        terms = self._model(request)
        expected = self._state.expected_completion_tokens(request.model, terms.expected_completion_tokens)
        lot = Lot(
            request_id=request.request_id,
            attempt=attempt,
            model=request.model,
            prompt_tokens=max(1, request.request_bytes // BYTES_PER_TOKEN),
            completion_tokens=min(request.max_tokens or expected, expected),
            input_reserve_price=terms.input_reserve_price,
            output_reserve_price=terms.output_reserve_price,
        )
        quality = self._configuration.quality_prior_bps
        return run_auction(lot, [bid_of(one, quality_bps=quality) for one in eligible])

    def _terms(self, request: OpenJob, transcript: Transcript, raw: bytes, deadline_ms: int, now_ms: int) -> Award:
        standing = self._book.standing(request.model, transcript.bids[0].bid.node_id)
        quote = standing.quote
        max_prompt = min(request.request_bytes + self._configuration.metering.template_allowance, quote.context_length)
        max_completion = _completion_limit(request, quote.context_length)
        self._book.take_slot(quote.node_id, quote.model)
        return Award(
            request_id=request.request_id,
            attempt=transcript.attempt,
            node_id=quote.node_id,
            session=quote.session,
            model=quote.model,
            request_commitment=request.request_commitment,
            forwarded_commitment=request.forwarded_commitment,
            request_bytes=request.request_bytes,
            quote=standing.digest,
            transcript=digest_of(raw),
            input_price=transcript.input_price,
            output_price=transcript.output_price,
            max_prompt_tokens=max_prompt,
            max_completion_tokens=max_completion,
            payment_cap=amount_owed(
                input_price=transcript.input_price,
                prompt_tokens=max_prompt,
                output_price=transcript.output_price,
                completion_tokens=max_completion,
            ),
            awarded_ms=now_ms,
            first_token_by_ms=min(now_ms + self._configuration.jobs.first_token_ms, deadline_ms),
            deadline_ms=deadline_ms,
        )

    def _model(self, request: OpenJob) -> ModelTerms:
        terms = self._configuration.model(request.model)
        assert terms is not None, "OpenJob is refused for models that are not listed"
        return terms


def _completion_limit(request: OpenJob, context_length: int) -> int:
    """Tokens an answer may have. Some engines refuse a prompt and a limit that together exceed their context."""
    most = context_length - request.request_bytes // BYTES_PER_TOKEN_MAX
    safe = context_length - request.request_bytes // BYTES_PER_TOKEN_MIN
    return min(request.max_tokens or (safe if safe > 0 else most), most)
