"""Why a node's answer came to nothing, in words for the caller; the code on receipts and in metrics is the key.

What the same codes mean to the node's operator, `pinaivu node status` and docs/operators.md say.
"""

from collections.abc import Mapping
from typing import Final

MESSAGES: Final[Mapping[str, str]] = {
    "acceptance_refused": "the node accepted the request in a way that does not hold",
    "answer_too_long": "the node sent more than an answer of so many tokens can have",
    "busy": "the node was busy, though it had offered a free place",
    "coordinator_unavailable": "the coordinator was lost while the node answered",
    "deadline": "the answer came after its time was over",
    "draining": "the node was shutting down",
    "engine_unavailable": "the node's engine did not answer",
    "invalid_award": "the node refused the request as not rightly given to it",
    "invalid_proof": "the node's proof of its answer does not hold",
    "no_proof": "the node did not prove its answer",
    "node_disconnected": "the connection to the node was lost",
    "node_failed": "the node failed while it answered",
    "overflow": "the node sent its answer faster than it could be passed on",
    "protocol_violation": "the node sent what the protocol does not allow",
    "response_mismatch": "the node proved another answer than the one that it sent",
}


def message_of(reason: str) -> str:
    """The reason in words; one that is not of this version stays a code."""
    return MESSAGES.get(reason, f"the node failed: {reason}")
