"""Metering: how many tokens a job is paid for, bounded by what was delivered (DESIGN sections 3 and 4).

What a node claims beyond the bounds is cut, what it does not prove is not paid, and the receipt says why.
"""

import msgspec

from pinaivu_shared.canonical import decode
from pinaivu_shared.configuration import MeteringLimits
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.signed import Signed, load_node_key, verify_node
from pinaivu_shared.terms import Award, Outcome, Proof
from pinaivu_shared.wire.link import Delivery


class Metered(msgspec.Struct, frozen=True):
    """The outcome of a job as its receipt will state it. Tokens are those paid for."""

    outcome: Outcome
    reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What host and node say about a job that was awarded; `award_digest` names the award's payload bytes."""

    award: Award
    award_digest: str
    accepted: bool
    outcome: Outcome
    reason: str
    delivery: Delivery
    proof: Signed | None


def read_proof(evidence: Evidence, public_key: bytes) -> Proof:
    """The node's proof, once it is signed by the awarded node for this very award; VerificationError otherwise."""
    assert evidence.proof is not None
    payload = verify_node("proof", evidence.proof, load_node_key(public_key))
    proof = decode(payload, Proof, check="proof")
    award = evidence.award
    claimed = (proof.request_id, proof.node_id, proof.session, proof.award, proof.public_key)
    if claimed != (award.request_id, award.node_id, award.session, evidence.award_digest, public_key.hex()):
        raise VerificationError("proof", "is for another award, node or session")
    if proof.forwarded_commitment != award.forwarded_commitment:
        raise VerificationError("proof", "is for another request")
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
    if evidence.delivery.delivered_bytes == 0 and evidence.outcome == "cancelled":
        return Metered("cancelled", "nothing_delivered")
    return _within_bounds(evidence, proof, limits)


def _within_bounds(evidence: Evidence, proof: Proof, limits: MeteringLimits) -> Metered:
    if proof.completion_tokens == 0 or proof.prompt_tokens == 0:
        return Metered(evidence.outcome, "usage_missing")
    completion = min(
        proof.completion_tokens,
        evidence.award.max_completion_tokens,
        evidence.delivery.delivered_bytes + limits.completion_allowance,
    )
    prompt = min(proof.prompt_tokens, evidence.award.max_prompt_tokens)
    cut = (prompt, completion) != (proof.prompt_tokens, proof.completion_tokens)
    undelivered = cut and evidence.outcome == "completed"
    return Metered(evidence.outcome, "usage_cut" if undelivered else evidence.reason, prompt, completion)
