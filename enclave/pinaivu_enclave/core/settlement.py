"""Settlement: meter a job, pay for it and write its receipt, which is its log leaf (DESIGN sections 3 to 5)."""

import datetime as dt
from typing import Final, get_args

import msgspec

from pinaivu_enclave.core.jobs import Job, Phase, SettledJob
from pinaivu_enclave.core.journal import Journal
from pinaivu_enclave.core.keys import EpochKeys
from pinaivu_enclave.core.market_state import MarketState
from pinaivu_enclave.core.metering import Evidence, Metered, judged_attempts, meter, read_proof
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.money import amount_owed, charge_on, format_usdc, parse_usdc
from pinaivu_shared.receipt import LogPosition, Receipt, ReceiptAuction, ReceiptTiming, sign_receipt
from pinaivu_shared.terms import Proof
from pinaivu_shared.wire.link import JobSettled, LeafAppended, SettleJob
from pinaivu_shared.wire.node import DeclineReason

FINDINGS: Final = frozenset({
    "invalid_proof", "response_mismatch", "usage_absurd", "usage_missing", "usage_cut", "usage_recounted", "prompt_cut",
    "credit_limit", "empty_answer", "stopped_at_once",
})  # fmt: skip
"""Reasons that only the enclave finds, out of what the node signed. A host's word would convict anyone, or clear."""
_DECLINES: Final[frozenset[str]] = frozenset(get_args(DeclineReason))


class Settled(msgspec.Struct, frozen=True):
    """A settled job: the receipt as a leaf, the answer that carries it, and what is left of the job.

    `absurd` says that the proof which counted convicts its node.
    """

    leaf: LeafAppended
    answer: JobSettled
    remembered: SettledJob
    absurd: bool


class SettlementOffice:
    """Writes receipts and folds them into the market's state."""

    def __init__(
        self, configuration: Configuration, keys: EpochKeys, attestation: str, state: MarketState, journal: Journal
    ) -> None:
        self._configuration, self._keys, self._attestation = configuration, keys, attestation
        self._state, self._journal = state, journal
        self._coordinator_key = digest_of(keys.receipt_spki()).removeprefix("sha256:")

    def settle(self, job: Job, command: SettleJob, now_ms: int) -> Settled:
        """Release what the job holds, write its receipt and charge it."""
        evidence = Evidence(
            award=job.award,
            shortened=job.shortened,
            may_be_empty=job.request.may_be_empty,
            accepted=job.phase is not Phase.AWARDED,
            outcome=command.outcome,
            reason=_reason_in(job.phase, reason_of_host(command.reason)),
            delivery=command.delivery,
            proof=command.proof,
        )
        proof = _verified_proof(job, command)
        counted = digest_of(command.proof.payload) if proof and command.proof else ""
        metered = meter(evidence, proof, self._configuration.metering)
        receipt = self._receipt(job, metered, command, counted, now_ms)
        raw = sign_receipt(receipt, self._keys.receipt)
        leaf = self._journal.append(raw)
        self._state.ledger.release(receipt.request_id)
        self._state.fold(receipt)
        answer = JobSettled(receipt.request_id, leaf.index, raw, parse_usdc(receipt.charge_amount))
        return Settled(leaf, answer, SettledJob(leaf.index, job.proof_terms(), counted), metered.absurd)

    def _receipt(self, job: Job, metered: Metered, command: SettleJob, counted: str, now_ms: int) -> Receipt:
        award, payment = job.award, _payment(job, metered)
        assert payment <= award.payment_cap, "metering keeps tokens within the award"
        return Receipt(
            version=1,
            request_id=award.request_id,
            account=job.request.account,
            node_id=award.node_id,
            model=award.model,
            timestamp=_timestamp(now_ms),
            payment_amount=format_usdc(payment),
            charge_amount=format_usdc(charge_on(payment, self._configuration.fee_bps)),
            outcome=metered.outcome,
            reason=metered.reason,
            prompt_tokens=metered.prompt_tokens,
            completion_tokens=metered.completion_tokens,
            request_commitment=award.request_commitment,
            response_commitment=command.delivery.response_commitment,
            auction=_auction(job),
            failed_attempts=judged_attempts(job, metered),
            timing=_timing(job, metered, now_ms),
            node_proof=counted,
            log=LogPosition(origin=self._journal.origin, index=self._journal.size),
            coordinator_key=self._coordinator_key,
            attestation=self._attestation,
            coordinator_signature="",
        )


def reason_of_host(reason: str) -> str:
    """The host's word for why, and none where it is a finding of the enclave."""
    return "" if reason in FINDINGS else reason


def _reason_in(phase: Phase, reason: str) -> str:
    """A decline answers an offer: a node that gives up what it has begun has failed, whatever it says."""
    return "node_failed" if phase is Phase.STREAMING and reason in _DECLINES else reason


def _verified_proof(job: Job, command: SettleJob) -> Proof | None:
    if command.proof is None:
        return None
    try:
        return read_proof(command.proof, job.proof_terms())
    except VerificationError:
        return None  # the receipt says so: reason "invalid_proof"


def _auction(job: Job) -> ReceiptAuction:
    return ReceiptAuction(
        rule="second-score-v1",
        bids=job.bids,
        input_price=job.award.input_price,
        output_price=job.award.output_price,
        transcript=job.award.transcript,
    )


def _timing(job: Job, metered: Metered, now_ms: int) -> ReceiptTiming:
    """An answer of whose first token the host said nothing came as late as it was settled."""
    duration_ms = max(0, now_ms - job.award.awarded_ms)
    return ReceiptTiming(
        first_token_ms=job.first_token_ms or (duration_ms if metered.paid else 0),
        duration_ms=duration_ms,
    )


def _payment(job: Job, metered: Metered) -> int:
    return amount_owed(
        input_price=job.award.input_price,
        prompt_tokens=metered.prompt_tokens,
        output_price=job.award.output_price,
        completion_tokens=metered.completion_tokens,
    )


def _timestamp(now_ms: int) -> str:
    return dt.datetime.fromtimestamp(now_ms // 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
