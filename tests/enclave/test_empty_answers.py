"""Empty answers: whose fault they are, and what they do to a node's standing."""

import pytest

from pinaivu_enclave.core.quality_book import Standing
from pinaivu_shared.ids import digest_of
from pinaivu_shared.wire import link

from .market import Market, Node
from .test_quality import standing, timed

ANSWER = digest_of(b"answer")
EMPTY = link.Delivery(0, ANSWER)


def test_an_empty_answer_pays_nothing_and_counts_against_the_node(market: Market, cheap: Node) -> None:
    before = standing(market, cheap).quality_bps
    receipt = market.settle(market.open_job(), cheap, delivery=EMPTY)
    assert (receipt.payment_amount, receipt.reason) == ("0.000000 USDC", "empty_answer")
    assert standing(market, cheap).quality_bps < before


@pytest.mark.parametrize("claim", [{}, {"completion_tokens": 0}, {"prompt_tokens": 0}], ids=str)
def test_an_answer_that_the_callers_stop_may_end_at_once_pays_nothing_and_says_nothing_of_the_node(
    market: Market, cheap: Node, claim: dict[str, int]
) -> None:
    before, awarded = standing(market, cheap).quality_bps, market.open_job(may_be_empty=True)
    receipt = market.settle(awarded, cheap, proof=cheap.proof(awarded, **claim), delivery=EMPTY)
    assert (receipt.outcome, receipt.reason) == ("completed", "stopped_at_once")
    assert (receipt.payment_amount, receipt.charge_amount) == ("0.000000 USDC", "0.000000 USDC")
    assert standing(market, cheap).quality_bps == before


def test_another_nodes_award_of_the_same_job_may_be_empty_too(market: Market, cheap: Node, dear: Node) -> None:
    again = market.apply(link.ReportFailure(market.open_job(may_be_empty=True).request_id, 1, "busy"))
    receipt = market.settle(again, dear, delivery=EMPTY)
    assert (receipt.node_id, receipt.reason) == (dear.node_id, "stopped_at_once")


def test_a_claim_is_absurd_whether_or_not_the_answer_may_be_empty(market: Market, cheap: Node) -> None:
    awarded = market.open_job(may_be_empty=True)
    proof = cheap.proof(awarded, completion_tokens=10**6)
    assert market.settle(awarded, cheap, proof=proof, delivery=EMPTY).reason == "usage_absurd"


def test_an_answer_that_the_callers_stop_ended_at_once_moves_nothing(probation: Market) -> None:
    """Nor does it bring a slot: nothing was answered."""
    node = Node(probation, "a").register().quote()
    probation.settle(probation.open_job(may_be_empty=True), node, delivery=EMPTY)
    assert standing(probation, node) == Standing(7_500, 2)


def test_an_empty_answer_that_no_stop_explains_is_a_failure(probation: Market) -> None:
    node = Node(probation, "a").register().quote()
    probation.settle(probation.open_job(), node, delivery=EMPTY)
    assert (standing(probation, node).quality_bps, standing(probation, node).slots) == (7_250, 1)


def test_an_empty_answer_is_no_measure_for_others(market: Market) -> None:
    """It ends at once, and would make everybody look late."""
    node = Node(market, "a").register().quote()
    timed(market, node, first_ms=100, generating_ms=1_000)
    for _ in range(9):
        market.settle(market.open_job(may_be_empty=True), node, delivery=EMPTY)
    timed(market, node, first_ms=100, generating_ms=1_000)
    assert [change.sample_bps for change in standing(market, node).changes] == [10_000, 10_000]


def test_the_host_cannot_clear_a_node_that_failed_by_calling_it_stopped_at_once(market: Market, cheap: Node) -> None:
    market.settle(market.open_job(may_be_empty=True), cheap, outcome="failed", reason="stopped_at_once", proof=None)
    assert market.receipts()[-1].reason == "node_failed"
    assert standing(market, cheap).quality_bps == 7_250
