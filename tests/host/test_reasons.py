"""Why a job came to nothing, or a node was paid less: the words that host, node and enclave have for it are the same.

Each keeps a list of its own, since each says something else of them: here they are held side by side.
"""

from pinaivu_host.gateway.failures import MESSAGES
from pinaivu_host.metrics import REASONS
from pinaivu_node.reasons import MEANINGS
from pinaivu_shared.quality import NOT_THE_NODES_FAULT

OF_NO_JOB = {"", "conflicting_proofs"}
"""What MEANINGS has beside: a job that was answered, and why a node is suspended after its jobs."""


def test_metrics_know_every_reason_that_a_node_is_told_the_meaning_of_and_no_other() -> None:
    assert MEANINGS.keys() - OF_NO_JOB == REASONS


def test_what_callers_are_told_and_what_is_no_nodes_fault_are_reasons_of_the_market() -> None:
    assert MESSAGES.keys() <= REASONS
    assert NOT_THE_NODES_FAULT <= REASONS
