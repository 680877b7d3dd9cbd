"""Suspension: only what a node itself signed convicts it; it wins nothing until it ends, then begins on probation."""

import pytest

from pinaivu_shared.leaves import SuspensionLeaf, parse_leaf
from pinaivu_shared.wire import link

from .market import Market, Node

NOTHING = link.Delivery(0, "")
SUSPENSION_MS = 600_000


def suspensions(market: Market) -> list[SuspensionLeaf]:
    return [leaf for leaf in map(parse_leaf, market.leaves) if isinstance(leaf, SuspensionLeaf)]


def offend(market: Market, node: Node) -> None:
    """Let the node win a job and claim what its award rules out."""
    awarded = market.open_job()
    assert awarded.node_id == node.node_id
    market.settle(awarded, node, proof=node.proof(awarded, completion_tokens=10**6))


@pytest.mark.parametrize("outcome", ["failed", "cancelled", "completed"])
@pytest.mark.parametrize("reason", ["usage_absurd", "usage_recounted", "usage_cut", "invalid_proof", "credit_limit"])
def test_the_word_of_the_host_convicts_nobody(market: Market, cheap: Node, outcome: str, reason: str) -> None:
    receipt = market.settle(market.open_job(), cheap, outcome=outcome, reason=reason)
    assert suspensions(market) == []
    assert receipt.reason == ("node_failed" if outcome == "failed" else "")


def test_a_failure_that_the_host_calls_absurd_suspends_nobody(market: Market, cheap: Node, dear: Node) -> None:
    awarded = market.open_job()
    again = market.apply(link.ReportFailure(awarded.request_id, 1, "usage_absurd"))
    market.apply(link.ReportFailure(again.request_id, 2, "usage_absurd"))
    assert suspensions(market) == []
    assert [one.reason for one in market.receipts()[-1].failed_attempts] == ["node_failed"]
    Market(stored=tuple(market.leaves), checkpoint=market.checkpoint)
