"""Metering: how many tokens a job is paid for, bounded by what was delivered (DESIGN sections 3 and 4).

What a node claims beyond the bounds is cut, what it does not prove is not paid, and the receipt says why. A claim that
the award's own terms make impossible is signed evidence against the node: it is paid nothing at all.
"""

import msgspec

from pinaivu_enclave.core.jobs import Failure, Job, ProofTerms
from pinaivu_shared.canonical import decode
from pinaivu_shared.configuration import MeteringLimits
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.money import BASIS_POINTS
from pinaivu_shared.receipt import FailedAttempt
from pinaivu_shared.signed import Signed, load_node_key, verify_node
from pinaivu_shared.terms import PROMPT_TOKENS_PER_BYTE_MAX, Award, Outcome, Proof
from pinaivu_shared.wire.link import Delivery


class Metered(msgspec.Struct, frozen=True):
    """The outcome of a job as its receipt will state it. Tokens are those paid for.

    `absurd` says that the node's own proof convicts it; the reason alone does not, for the host may have given it.
    """

    outcome: Outcome
    reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    absurd: bool = False

    @property
    def paid(self) -> bool:
        """Whether there was an answer to pay for."""
        return self.prompt_tokens + self.completion_tokens > 0


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What host and node say about a job that was awarded."""

    award: Award
    shortened: bool
    may_be_empty: bool
    accepted: bool
    outcome: Outcome
    reason: str
    delivery: Delivery
    proof: Signed | None


def read_proof(signed: Signed, terms: ProofTerms) -> Proof:
    """The node's proof, once it is signed by the awarded node for this very award; VerificationError otherwise."""
    payload = verify_node("proof", signed, load_node_key(bytes.fromhex(terms.public_key)))
    proof = decode(payload, Proof, check="proof")
    named = ProofTerms(**{name: getattr(proof, name) for name in ProofTerms.__struct_fields__})
    if named != terms:
        raise VerificationError("proof", "is for another award, node, session or request")
    return proof


def meter(  # noqa: PLR0911 - one line per way a job can end
    evidence: Evidence, proof: Proof | None, limits: MeteringLimits
) -> Metered:
    """Decide outcome, reason and paid tokens. `proof` is None where none came or it did not verify."""
    if evidence.outcome == "failed":
        return Metered("failed", evidence.reason or "node_failed")
    if not evidence.accepted:
        return Metered("failed", "not_accepted")
    if proof is None:
        reason = "no_proof" if evidence.proof is None else "invalid_proof"
        return Metered("cancelled" if evidence.outcome == "cancelled" else "failed", reason)
    if evidence.outcome == "completed":
        if proof.outcome != "completed":
            return Metered("failed", "node_failed")
        if proof.response_commitment != evidence.delivery.response_commitment:
            return Metered("failed", "response_mismatch")
    if is_absurd(proof, evidence.award, limits):
        return Metered(evidence.outcome, "usage_absurd", absurd=True)
    if evidence.delivery.delivered_bytes == 0:
        return Metered(evidence.outcome, _why_empty(evidence))
    return _within_bounds(evidence, proof, limits)


def is_absurd(proof: Proof, award: Award, limits: MeteringLimits) -> bool:
    """Whether the node signed a claim that its own award rules out, whatever was delivered."""
    return (
        proof.prompt_tokens > PROMPT_TOKENS_PER_BYTE_MAX * (award.request_bytes + limits.template_allowance)
        or proof.completion_tokens > award.max_completion_tokens + limits.completion_allowance
    )


def judged_decline(job: Job, reason: str, limits: MeteringLimits) -> str:
    """The reason of a failed attempt: a job that surely fits the node's own context is not too long for it."""
    longest = job.award.request_bytes + limits.template_allowance + job.award.max_completion_tokens
    return _decline(reason, needed=longest, context_length=job.context_length)


def judged_attempts(job: Job, metered: Metered) -> tuple[FailedAttempt, ...]:
    """The failed attempts as the receipt states them: an answer shows what would have fitted its declined contexts."""
    needed = metered.prompt_tokens + job.award.max_completion_tokens

    def reason(one: Failure) -> str:
        if not metered.paid:
            return one.reason
        return _decline(one.reason, needed=needed, context_length=one.context_length)

    return tuple(FailedAttempt(node_id=one.node_id, reason=reason(one)) for one in job.failed)


def _decline(reason: str, *, needed: int, context_length: int) -> str:
    return "false_decline" if reason == "context_length_exceeded" and needed <= context_length else reason


def _why_empty(evidence: Evidence) -> str:
    if evidence.outcome != "completed":
        return "nothing_delivered"
    return "stopped_at_once" if evidence.may_be_empty else "empty_answer"


def _within_bounds(evidence: Evidence, proof: Proof, limits: MeteringLimits) -> Metered:
    delivery, award = evidence.delivery, evidence.award
    embeds = award.max_completion_tokens == 0
    if proof.prompt_tokens == 0 or (proof.completion_tokens == 0 and not embeds):
        return Metered(evidence.outcome, "usage_missing")
    longest = _longest_prompt(evidence, limits)
    prompt = min(proof.prompt_tokens, award.max_prompt_tokens, longest)
    claimed, reason = proof.completion_tokens, ""
    if prompt < proof.prompt_tokens:
        reason = "credit_limit" if proof.prompt_tokens <= longest else "prompt_cut"
    completion = min(claimed, award.max_completion_tokens, delivery.delivered_bytes + limits.completion_allowance)
    if evidence.shortened and completion == award.max_completion_tokens:
        reason = reason or "credit_limit"
    if completion < claimed:
        reason = "usage_cut"
    if delivery.recounted_tokens is not None:
        completion = min(completion, delivery.recounted_tokens)  # what is tolerated is not held against it, nor paid
        if claimed > _tolerated(delivery.recounted_tokens, limits):
            reason = "usage_recounted"
    stated = reason if evidence.outcome == "completed" else evidence.reason
    if completion == 0 and not (embeds and evidence.outcome == "completed"):  # no part of embeddings is worth a thing
        return Metered(evidence.outcome, stated or "nothing_delivered")
    return Metered(evidence.outcome, stated, prompt, completion)


def _longest_prompt(evidence: Evidence, limits: MeteringLimits) -> int:
    """What a prompt may have at most: no more tokens than bytes, or than were counted, and the template's."""
    recounted = evidence.delivery.recounted_prompt_tokens
    most = evidence.award.request_bytes if recounted is None else min(recounted, evidence.award.request_bytes)
    return most + limits.template_allowance


def _tolerated(recounted: int, limits: MeteringLimits) -> int:
    return recounted + limits.completion_allowance + recounted * limits.recount_tolerance_bps // BASIS_POINTS
