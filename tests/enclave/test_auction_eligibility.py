"""A bid that is not eligible neither wins nor sets a price, and the coordinator pays within the rule's bounds."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinaivu_shared.canonical import decode
from pinaivu_shared.money import amount_owed, parse_usdc
from pinaivu_shared.second_score import verify_transcript
from pinaivu_shared.terms import Award
from pinaivu_shared.wire import link
from pinaivu_simulator.market import INPUT_RESERVE_PRICE, OUTPUT_RESERVE_PRICE

from .market import OTHER_MODEL, Market, Node

PRICES = st.tuples(st.integers(1, INPUT_RESERVE_PRICE), st.integers(1, OUTPUT_RESERVE_PRICE))


def posted_for_another_model(market: Market, node: Node) -> None:
    market.apply(link.WithdrawQuotes(node.session, ""))
    node.quote(20_000, 60_000, model=OTHER_MODEL)


INELIGIBLE: dict[str, Callable[[Market, Node], object]] = {
    "expired": lambda market, node: node.quote(20_000, 60_000, expires_ms=market.now_ms + 1),
    "withdrawn": lambda market, node: market.apply(link.WithdrawQuotes(node.session, "")),
    "session ended": lambda market, node: market.apply(link.EndSession(node.session)),
    "context too short": lambda market, node: node.quote(20_000, 60_000, context_length=50),
    "another model": posted_for_another_model,
    "no slot": lambda market, node: (node.quote(20_000, 60_000, slots=1), market.open_job()),
}


@pytest.mark.parametrize("why", INELIGIBLE)
def test_a_bid_that_is_not_eligible_never_wins_nor_sets_a_price(
    market: Market, cheap: Node, dear: Node, why: str
) -> None:
    INELIGIBLE[why](market, cheap)
    market.now_ms += 1
    transcript = verify_transcript(market.open_job().transcript)
    assert [one.bid.node_id for one in transcript.bids] == [dear.node_id]


def test_a_node_that_failed_a_job_is_excluded_from_its_next_auction(market: Market, cheap: Node, dear: Node) -> None:
    awarded = market.open_job()
    again = market.apply(link.ReportFailure(awarded.request_id, 1, "no_first_token"))
    assert [one.bid.node_id for one in verify_transcript(again.transcript).bids] == [dear.node_id]


@settings(max_examples=15)
@given(st.lists(PRICES, min_size=1, max_size=4), st.integers(400, 2000), st.integers(74, 300))
def test_the_coordinator_awards_and_pays_within_the_same_bounds(
    asked: list[tuple[int, int]], request_bytes: int, max_tokens: int
) -> None:
    market = Market()
    nodes = [Node(market, f"node-{number}").register().quote(*prices) for number, prices in enumerate(asked)]
    awarded = market.open_job(request_bytes=request_bytes, max_tokens=max_tokens)
    award = decode(awarded.award.payload, Award, check="award")
    (winner,) = (node for node in nodes if node.node_id == awarded.node_id)
    receipt = market.settle(awarded, winner)
    ceiling = amount_owed(
        input_price=INPUT_RESERVE_PRICE,
        prompt_tokens=award.max_prompt_tokens,
        output_price=OUTPUT_RESERVE_PRICE,
        completion_tokens=award.max_completion_tokens,
    )
    assert 0 < parse_usdc(receipt.payment_amount) <= award.payment_cap <= ceiling
