"""Settlement: meter a job, pay for it and write its receipt, which is its log leaf (DESIGN sections 3 to 5)."""

import datetime as dt

import msgspec

from pinaivu_enclave.core.commands import Effect
from pinaivu_enclave.core.jobs import Job, Phase
from pinaivu_enclave.core.journal import Journal
from pinaivu_enclave.core.keys import EpochKeys
from pinaivu_enclave.core.market_state import MarketState
from pinaivu_enclave.core.metering import Evidence, Metered, meter, read_proof
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.money import amount_owed, format_usdc
from pinaivu_shared.receipt import LogPosition, Receipt, ReceiptAuction, sign_receipt
from pinaivu_shared.terms import Proof
from pinaivu_shared.wire.link import JobSettled, SettleJob


class SettlementOffice:
    """Writes receipts and folds them into the market's state."""

    def __init__(
        self, configuration: Configuration, keys: EpochKeys, attestation: str, state: MarketState, journal: Journal
    ) -> None:
        self._configuration, self._keys, self._attestation = configuration, keys, attestation
        self._state, self._journal = state, journal
        self._coordinator_key = digest_of(keys.receipt_spki()).removeprefix("sha256:")

    def settle(self, job: Job, command: SettleJob, now_ms: int) -> list[Effect]:
        """The receipt as a leaf, then the answer that carries it."""
        evidence = Evidence(
            award=job.award,
            award_digest=job.award_digest,
            accepted=job.phase is Phase.RUNNING,
            outcome=command.outcome,
            reason=command.reason,
            delivery=command.delivery,
            proof=command.proof,
        )
        proof = _verified_proof(evidence, job.public_key)
        receipt = self._receipt(job, evidence, meter(evidence, proof, self._configuration.metering), proof, now_ms)
        raw = sign_receipt(receipt, self._keys.receipt)
        charge = self._state.charge_for(_payment(receipt))
        leaf = self._journal.append(raw)
        self._state.fold(receipt)
        return [leaf, JobSettled(job.request.request_id, leaf.index, raw, charge)]

    def _receipt(self, job: Job, evidence: Evidence, metered: Metered, proof: Proof | None, now_ms: int) -> Receipt:
        auction = ReceiptAuction(
            rule="second-score-v1",
            bids=job.bids,
            input_price=job.award.input_price,
            output_price=job.award.output_price,
            transcript=job.award.transcript,
        )
        unpaid = Receipt(
            version=1,
            request_id=job.request.request_id,
            node_id=job.award.node_id,
            model=job.award.model,
            timestamp=_timestamp(now_ms),
            payment_amount="0.000000 USDC",
            outcome=metered.outcome,
            reason=metered.reason,
            prompt_tokens=metered.prompt_tokens,
            completion_tokens=metered.completion_tokens,
            request_commitment=job.award.request_commitment,
            response_commitment=evidence.delivery.response_commitment,
            auction=auction,
            node_proof=digest_of(evidence.proof.payload) if proof and evidence.proof else "",
            log=LogPosition(origin=self._journal.origin, index=self._journal.size),
            coordinator_key=self._coordinator_key,
            attestation=self._attestation,
            coordinator_signature="",
        )
        owed = _payment(unpaid)
        assert owed <= job.award.payment_cap, "metering keeps tokens within the award"
        return msgspec.structs.replace(unpaid, payment_amount=format_usdc(owed))


def _verified_proof(evidence: Evidence, public_key: bytes) -> Proof | None:
    if evidence.proof is None:
        return None
    try:
        return read_proof(evidence, public_key)
    except VerificationError:
        return None  # the receipt says so: reason "invalid_proof"


def _payment(receipt: Receipt) -> int:
    return amount_owed(
        input_price=receipt.auction.input_price,
        prompt_tokens=receipt.prompt_tokens,
        output_price=receipt.auction.output_price,
        completion_tokens=receipt.completion_tokens,
    )


def _timestamp(now_ms: int) -> str:
    return dt.datetime.fromtimestamp(now_ms // 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
