"""A bid that is not eligible neither wins nor sets a price, and the coordinator pays within the rule's bounds."""

from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinaivu_enclave.core.commands import RefusedQuoteError
from pinaivu_shared.canonical import decode
from pinaivu_shared.errors import CallerError
from pinaivu_shared.money import amount_owed, parse_usdc
from pinaivu_shared.second_score import verify_transcript
from pinaivu_shared.terms import Award, Capabilities, Capability, is_canonical
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
    "not capable": lambda market, node: node.quote(20_000, 60_000, capabilities=("completions",)),
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


CAPABILITIES: st.SearchStrategy[Capabilities] = st.sets(st.sampled_from(get_args(Capability)), min_size=1).map(
    lambda some: tuple(sorted(some))
)


def bidders(awarded: link.Awarded) -> set[str]:
    return {one.bid.node_id for one in verify_transcript(awarded.transcript).bids}


@settings(max_examples=30)
@given(st.lists(CAPABILITIES, max_size=4), CAPABILITIES)
def test_only_nodes_that_can_do_all_that_a_job_needs_bid_for_it(
    offered: list[Capabilities], needs: Capabilities
) -> None:
    """Nor does any other one come in where one of them fails; what cannot be done is told from what nobody offers."""
    market = Market()
    nodes = [Node(market, f"node-{number}").register().quote(capabilities=one) for number, one in enumerate(offered)]
    able = {node.node_id for node, one in zip(nodes, offered, strict=True) if set(needs) <= set(one)}
    answer = market.open_job(needs=needs)
    if not able:
        assert answer.reason == ("no_capable_node" if nodes else "no_node")
        return
    assert bidders(answer) == able
    again = market.apply(link.ReportFailure(answer.request_id, 1, "busy"))
    if len(able) > 1:
        assert bidders(again) == able - {answer.node_id}
    else:
        assert isinstance(again, link.JobSettled)


def test_a_capable_node_that_is_busy_is_told_from_none(market: Market, cheap: Node, dear: Node) -> None:
    cheap.quote(capabilities=("chat", "tools"), slots=1)
    market.open_job(needs=("chat", "tools"))
    assert market.open_job(needs=("chat", "tools")).reason == "no_free_slot"
    assert market.open_job(needs=("chat", "images")).reason == "no_capable_node"
    assert market.open_job(needs=("chat",)).node_id == dear.node_id


@pytest.mark.parametrize("written", [("tools", "chat"), ("chat", "chat"), ("chat", "tools", "chat")])
def test_capabilities_and_needs_are_written_in_one_way(market: Market, cheap: Node, written: Capabilities) -> None:
    assert not is_canonical(written)
    with pytest.raises(RefusedQuoteError, match="its capabilities are not sorted, or name one twice"):
        cheap.quote(capabilities=written)
    with pytest.raises(CallerError, match="the needs of a job are sorted, and each is named once"):
        market.open_job(needs=written)
    assert market.open_job(needs=("chat",)).node_id == cheap.node_id
