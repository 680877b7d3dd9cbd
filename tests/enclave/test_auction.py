"""The auction: who is eligible, who wins, and what the winner is paid."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shared import bidding
from tests.shared.bidding import LOT

from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.configuration import MAX_NODES
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.second_score import Bid, run_auction, verify_transcript
from pinaivu_shared.signed import Signed
from pinaivu_shared.terms import Award
from pinaivu_shared.wire import link

from .market import OTHER_MODEL, Market, Node


def bid(number: int, input_price: int, output_price: int, *, quality: int = 7500, operator: str = "") -> Bid:
    return bidding.bid(number, input_price, output_price, quality=quality, operator=operator)


bids = st.lists(
    st.tuples(st.integers(1, 40_000), st.integers(1, 120_000), st.integers(1, 10_000)), min_size=1, max_size=12
).map(lambda rows: [bid(number, *prices, quality=quality) for number, (*prices, quality) in enumerate(rows)])


def award_of(answer: link.Awarded) -> Award:
    return decode(answer.award.payload, Award, check="award")


def test_the_lowest_score_wins_and_is_paid_its_prices_scaled_by_the_runner_up() -> None:
    transcript = run_auction(LOT, [bid(1, 20_000, 60_000), bid(2, 30_000, 90_000), bid(3, 25_000, 75_000)])
    assert transcript.bids[0].bid.node_id == f"node_{1:032x}"
    assert (transcript.input_price, transcript.output_price) == (25_000, 75_000)


def test_better_quality_wins_against_a_lower_price() -> None:
    transcript = run_auction(LOT, [bid(1, 20_000, 60_000, quality=5000), bid(2, 24_000, 72_000, quality=9000)])
    assert transcript.bids[0].bid.node_id == f"node_{2:032x}"


def test_a_lone_bidder_is_paid_the_reserve_prices() -> None:
    transcript = run_auction(LOT, [bid(1, 20_000, 60_000)])
    assert (transcript.input_price, transcript.output_price) == (40_000, 120_000)


def test_nodes_of_the_winners_operator_are_no_runner_up() -> None:
    same = [bid(1, 20_000, 60_000, operator="one"), bid(2, 21_000, 63_000, operator="one")]
    assert run_auction(LOT, same).input_price == 40_000
    assert run_auction(LOT, [*same, bid(3, 30_000, 90_000)]).input_price == 30_000


def test_clearing_prices_are_capped_by_the_reserve() -> None:
    transcript = run_auction(LOT, [bid(1, 20_000, 60_000, quality=10_000), bid(2, 40_000, 120_000, quality=100)])
    assert (transcript.input_price, transcript.output_price) == (40_000, 120_000)


@given(bids, st.randoms(use_true_random=False))
def test_the_order_of_the_bids_changes_nothing(found: list[Bid], chance: random.Random) -> None:
    shuffled = list(found)
    chance.shuffle(shuffled)
    assert encode(run_auction(LOT, found)) == encode(run_auction(LOT, shuffled))


@given(bids)
def test_the_winner_is_paid_at_least_what_it_asked_and_at_most_the_reserve(found: list[Bid]) -> None:
    transcript = run_auction(LOT, found)
    winner = transcript.bids[0].bid
    assert winner.input_price <= transcript.input_price <= 40_000
    assert winner.output_price <= transcript.output_price <= 120_000


@given(bids)
def test_anyone_can_run_a_transcript_again(found: list[Bid]) -> None:
    raw = encode(run_auction(LOT, found))
    assert encode(verify_transcript(raw)) == raw


@pytest.mark.parametrize("field", ["input_price", "output_price"])
def test_a_transcript_with_another_clearing_price_is_refused(field: str) -> None:
    transcript = run_auction(LOT, [bid(1, 20_000, 60_000), bid(2, 30_000, 90_000)])
    forged = encode(msgspec.structs.replace(transcript, **{field: getattr(transcript, field) + 1}))
    with pytest.raises(VerificationError, match="transcript"):
        verify_transcript(forged)


def test_a_transcript_that_names_another_winner_is_refused() -> None:
    transcript = run_auction(LOT, [bid(1, 20_000, 60_000), bid(2, 30_000, 90_000)])
    swapped = msgspec.structs.replace(transcript, bids=transcript.bids[::-1])
    with pytest.raises(VerificationError, match="another result"):
        verify_transcript(encode(swapped))


def test_an_unlisted_model_is_refused(market: Market, cheap: Node) -> None:
    assert market.open_job(model="gpt-9").reason == "unknown_model"


def test_a_listed_model_without_a_quote_finds_no_node(market: Market, cheap: Node) -> None:
    assert market.open_job(model=OTHER_MODEL).reason == "no_node"


def test_an_expired_quote_is_not_eligible(market: Market, cheap: Node) -> None:
    market.now_ms += 60_000
    assert market.open_job().reason == "no_node"


def test_a_withdrawn_quote_is_not_eligible(market: Market, cheap: Node) -> None:
    market.apply(link.WithdrawQuotes(cheap.session, ""))
    assert market.open_job().reason == "no_node"


def test_the_quotes_of_an_ended_session_fall(market: Market, cheap: Node) -> None:
    market.apply(link.EndSession(cheap.session))
    assert market.open_job().reason == "no_node"


def test_a_prompt_that_cannot_fit_any_context_is_refused_as_such(market: Market, cheap: Node) -> None:
    assert market.open_job(request_bytes=2048 * 8).reason == "context_length_exceeded"


def test_slots_are_counted_by_the_enclave_and_freed_by_settlement(market: Market, cheap: Node) -> None:
    running = [market.open_job() for _ in range(4)]
    assert market.open_job().reason == "no_free_slot"
    market.settle(running[0], cheap)
    assert isinstance(market.open_job(), link.Awarded)


def test_a_full_winner_leaves_the_job_to_the_next(market: Market, cheap: Node, dear: Node) -> None:
    winners = [market.open_job().node_id for _ in range(5)]
    assert winners == [cheap.node_id] * 4 + [dear.node_id]


def test_the_award_names_the_terms_of_the_auction(market: Market, cheap: Node, dear: Node) -> None:
    answer = market.open_job()
    award = award_of(answer)
    transcript = verify_transcript(answer.transcript)
    assert (award.input_price, award.output_price) == (transcript.input_price, transcript.output_price)
    assert award.max_completion_tokens == 100
    assert award.payment_cap == -(-(25_000 * (400 + 64) + 75_000 * 100) // 1_000_000)


def test_the_running_average_of_answers_replaces_the_configured_expectation(market: Market, cheap: Node) -> None:
    before = verify_transcript(market.open_job(max_tokens=0).transcript).completion_tokens
    market.settle(market.open_job(), cheap)
    after = verify_transcript(market.open_job(max_tokens=0).transcript).completion_tokens
    assert (before, after) == (256, 74)


def test_the_longest_transcript_fits_into_one_frame_of_the_link() -> None:
    """2,000 bids with the longest operators, prices and scores there can be."""
    lot = msgspec.structs.replace(
        LOT, model="m" * 255, prompt_tokens=2**31, completion_tokens=2**31, input_reserve_price=2**40
    )
    longest = [bid(number, 2**40 - number, 2**40, quality=1, operator=f"{number:064}") for number in range(MAX_NODES)]
    transcript = encode(run_auction(lot, longest))
    signed = Signed(bytes(4096), bytes(72))
    award = link.Awarded("req_" + "0" * 26, "ses_" + "0" * 32, "node_" + "0" * 32, 3, signed, transcript)
    assert len(msgspec.msgpack.encode(link.Answer(2**53, award))) < link.MAX_FRAME_BYTES
