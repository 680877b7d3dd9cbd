"""What the reasons on receipts and suspensions mean to the node's operator (docs/operators.md has the table)."""

from typing import Final

MEANINGS: Final = {
    "": "answered",
    "usage_missing": "the engine gave no token counts, so nothing is paid",
    "empty_answer": "nothing was delivered of an answer that you called complete; nothing is paid",
    "stopped_at_once": "the caller's `stop` may have ended the answer at once; nothing is paid, nor held against you",
    "usage_cut": "claimed more tokens than were delivered; paid what was",
    "usage_recounted": "claimed more tokens than the answer has when counted again; paid that count",
    "usage_absurd": "claimed what the award itself rules out; nothing is paid and the node is suspended",
    "prompt_cut": "claimed more prompt tokens than fit the request, or than were counted again; paid up to that",
    "credit_limit": "the customer's credit paid for no more: of the prompt, or of an answer that reached its limit",
    "conflicting_proofs": "signed two different proofs of one job, and the node is suspended",
    "response_mismatch": "proved another answer than the one that was delivered",
    "no_proof": "sent no proof of the answer",
    "invalid_proof": "signed a proof of another job, award or session, or signed it wrongly",
    "acceptance_refused": "accepted another award, or signed its acceptance wrongly",
    "not_accepted": "the job ended before the node accepted it",
    "nothing_delivered": "the caller left before anything was delivered",
    "node_failed": "the node said that it failed, or gave up an answer that it had begun",
    "node_disconnected": "the connection to the node was lost",
    "protocol_violation": "sent what the protocol does not allow",
    "timeout": "no first token, or no end, within the award's time",
    "deadline": "the job was still open after the award's time, and the market closed it",
    "overflow": "sent faster than the gateway could pass on",
    "answer_too_long": "sent more than the awarded tokens can spell",
    "busy": "declined: no slot was free, though one was quoted",
    "draining": "the node was leaving: it declined the job, or cut it short",
    "engine_unavailable": "declined: the engine failed, did not answer or not in time",
    "invalid_award": "declined: the award did not hold",
    "context_length_exceeded": "declined: the request is longer than the context",
    "false_decline": "declined as too long what fits the context you quote, as far as it counts",
    "unsupported_request": "declined: the engine cannot do what was asked for; a failure only if another node could",
    "client_disconnected": "the caller left; what was delivered is paid",
    "client_stalled": "the caller stopped reading; what was delivered is paid",
    "shutting_down": "the gateway was leaving; what was delivered is paid",
    "abandoned": "the gateway lost sight of the job, and the same request began another",
    "host_restarted": "the gateway lost the job when it was restarted",
    "coordinator_unavailable": "the gateway could not reach the enclave",
}
"""Every reason that the market has; a gateway may name others."""


def meaning(reason: str) -> str:
    """The reason in words, itself where it has none."""
    return MEANINGS.get(reason, reason)
