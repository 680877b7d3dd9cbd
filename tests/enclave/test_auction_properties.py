"""What bidders can and cannot gain under second-score-v1, for all auctions (DESIGN section 4).

A bidder's profit is taken at the token counts that the auction expected, in millionths of a micro-USDC: what it is
paid for the job, less what the job costs it. The theorem: no quote earns more than the bidder's true cost does, but for

* rounding: the score is rounded down, so a bidder may earn up to 1/score more, and each price, so it may earn less by
  up to one for each token;
* the list price, where it cuts one of the truthful bidder's two prices and not the other;

and, beyond what the theorem is about, for token counts that come out other than expected, and for an operator that has
several nodes. Each of the four limits has an example below that shows it to be real, and what bounds it.
"""

import random
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shared import bidding
from tests.shared.bidding import LOT

from pinaivu_shared.canonical import encode
from pinaivu_shared.money import amount_owed
from pinaivu_shared.second_score import Bid, Lot, Transcript, run_auction, tie_break, verify_transcript

INPUT_RESERVE, OUTPUT_RESERVE = 40_000, 120_000
SELF = 999


def bid(number: int, prices: tuple[int, int], quality: int = 7500, operator: str = "") -> Bid:
    return bidding.bid(number, *prices, quality=quality, operator=operator)


def mine(prices: tuple[int, int], quality: int) -> Bid:
    return bid(SELF, prices, quality)


def is_mine(found: Bid) -> bool:
    return found.node_id == f"node_{SELF:032x}"


def at(prices: tuple[int, int], lot: Lot) -> int:
    return prices[0] * lot.prompt_tokens + prices[1] * lot.completion_tokens


def profit(lot: Lot, others: list[Bid], asked: tuple[int, int], cost: tuple[int, int], quality: int) -> int:
    """What a bidder of that cost gains by asking so; 0 when it does not win."""
    transcript = run_auction(lot, [*others, mine(asked, quality)])
    if not is_mine(transcript.bids[0].bid):
        return 0
    return at((transcript.input_price, transcript.output_price), lot) - at(cost, lot)


def score(lot: Lot, found: Bid) -> int:
    """The rule's, in this book's own words."""
    return at((found.input_price, found.output_price), lot) * 10_000 // found.quality_bps


def rounding(lot: Lot, others: list[Bid], asked: tuple[int, int], quality: int) -> Fraction:
    """How much more than the truth any other quote may earn: one for each token, and 1/score of the payment."""
    rival, own = min(score(lot, other) for other in others), score(lot, mine(asked, quality))
    return lot.prompt_tokens + lot.completion_tokens + Fraction(rival * quality, 10_000 * own)


lots = st.builds(
    lambda prompt, completion: msgspec.structs.replace(LOT, prompt_tokens=prompt, completion_tokens=completion),
    st.integers(1, 3000),
    st.integers(0, 3000),
)
price_pairs = st.one_of(
    st.tuples(st.integers(1, INPUT_RESERVE), st.integers(1, OUTPUT_RESERVE)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.integers(1, 20).map(lambda steps: (INPUT_RESERVE * steps // 20, OUTPUT_RESERVE * steps // 20)),
)
qualities = st.one_of(st.integers(1, 10_000), st.sampled_from([5000, 7500, 10_000]))
bids = st.lists(st.tuples(price_pairs, qualities, st.sampled_from(["", "one", "two"])), min_size=1, max_size=8).map(
    lambda rows: [bid(number, *row) for number, row in enumerate(rows)]
)


@given(lots, bids, price_pairs, price_pairs, qualities)
def test_no_quote_earns_more_than_the_true_cost_but_for_rounding_and_the_list_price(
    lot: Lot, others: list[Bid], cost: tuple[int, int], asked: tuple[int, int], quality: int
) -> None:
    rival, truth = min(score(lot, other) for other in others), score(lot, mine(cost, quality))
    cut = (
        max(0, cost[0] * rival // truth - INPUT_RESERVE),
        max(0, cost[1] * rival // truth - OUTPUT_RESERVE),
    )
    gain = profit(lot, others, asked, cost, quality) - profit(lot, others, cost, cost, quality)
    assert gain < rounding(lot, others, asked, quality) + at(cut, lot)


@given(lots, bids, st.integers(1, 20_000), price_pairs, qualities)
def test_who_has_costs_in_the_proportion_of_the_list_prices_loses_nothing_to_them(
    lot: Lot, others: list[Bid], cost: int, asked: tuple[int, int], quality: int
) -> None:
    true = (2 * cost, 6 * cost)
    gain = profit(lot, others, asked, true, quality) - profit(lot, others, true, true, quality)
    assert gain < rounding(lot, others, asked, quality)


@given(lots, bids, price_pairs, qualities)
def test_who_quotes_its_cost_never_loses(lot: Lot, others: list[Bid], cost: tuple[int, int], quality: int) -> None:
    assert profit(lot, others, cost, cost, quality) >= 0


@given(lots, price_pairs, price_pairs, qualities)
def test_alone_every_quote_earns_the_same(
    lot: Lot, cost: tuple[int, int], asked: tuple[int, int], quality: int
) -> None:
    assert profit(lot, [], asked, cost, quality) == profit(lot, [], cost, cost, quality)


def test_limit_1_rounding_may_pay_a_bidder_of_tiny_prices_a_little_more() -> None:
    """One prompt token at a price of 1 and quality 0.67 scores 1.49, rounded down to 1: a price half again as high.

    At the sizes of real jobs this is nothing: a score has the size of the payment in millionths of a micro-USDC.
    """
    one_token = msgspec.structs.replace(LOT, prompt_tokens=1, completion_tokens=0)
    rival, cost = [bid(1, (30_000, 1), 10_000)], (10_000, 1)
    assert profit(one_token, rival, cost, cost, 6700) == 20_100 - 10_000
    assert profit(one_token, rival, (1, 1), cost, 6700) == 30_000 - 10_000
    assert rounding(one_token, rival, (1, 1), 6700) == 1 + 20_100
    assert rounding(LOT, [bid(1, (30_000, 90_000), 10_000)], (20_000, 60_000), 6700) < 301


def test_limit_2_the_list_price_cuts_what_a_lopsided_cost_would_have_been_paid() -> None:
    """Cost at the list price for input, next to nothing for output: shifting the ask to output escapes the cut."""
    rival, cost, shifted = [bid(1, (40_000, 50_000))], (39_000, 1_000), (1, 20_499)
    assert at(shifted, LOT) <= at(cost, LOT)
    assert profit(LOT, rival, cost, cost, 7500) < profit(LOT, rival, shifted, cost, 7500)
    cleared = run_auction(LOT, [*rival, mine(shifted, 7500)])
    assert (cleared.input_price, cleared.output_price) <= (INPUT_RESERVE, OUTPUT_RESERVE), "what bounds it"


@pytest.mark.parametrize(("completion_tokens", "gains"), [(400, True), (50, False)])
def test_limit_3_skewing_pays_when_answers_are_longer_than_expected_and_costs_when_shorter(
    completion_tokens: int, *, gains: bool
) -> None:
    """DESIGN section 12: the list price bounds it, and the running average of answers follows."""
    rival, cost, skewed = [bid(1, (30_000, 90_000))], (20_000, 60_000), (1, 69_999)
    came_out = msgspec.structs.replace(LOT, completion_tokens=completion_tokens)

    def paid(asked: tuple[int, int]) -> int:
        transcript = run_auction(LOT, [*rival, mine(asked, 7500)])
        assert is_mine(transcript.bids[0].bid)
        return at((transcript.input_price, transcript.output_price), came_out)

    assert (paid(skewed) > paid(cost)) == gains
    assert paid(skewed) <= at((INPUT_RESERVE, OUTPUT_RESERVE), came_out)


def test_limit_4_an_operator_of_two_nodes_may_gain_by_holding_back_the_one_of_lower_quality() -> None:
    """Each node's own best quote is its cost; their operator's is not: it earns more where the better node wins.

    The customer is not worse off for the quality it gets: the price for quality is the rival's, whichever node wins.
    """
    rival = bid(1, (20_000, 60_000), 10_000)
    cheap, good = bid(2, (5_000, 15_000), 5000, "two"), bid(3, (12_000, 36_000), 10_000, "two")

    def earned(*own: Bid) -> int:
        transcript = run_auction(LOT, [rival, *own])
        winner = transcript.bids[0].bid
        assert winner in own
        cleared = (transcript.input_price, transcript.output_price)
        return at(cleared, LOT) - at((winner.input_price, winner.output_price), LOT)

    assert earned(cheap, good) == at((5_000, 15_000), LOT)
    assert earned(good) == at((8_000, 24_000), LOT)


@given(lots, bids, price_pairs, qualities)
def test_another_node_of_the_winners_operator_never_raises_its_price(
    lot: Lot, found: list[Bid], prices: tuple[int, int], quality: int
) -> None:
    before = run_auction(lot, found)
    winner = before.bids[0].bid
    added = bid(SELF, prices, quality, operator=winner.operator)
    after = run_auction(lot, [*found, added])
    if after.bids[0].bid == winner:
        assert (after.input_price, after.output_price) == (before.input_price, before.output_price)
    else:
        assert after.bids[0].bid == added, "it took the job from its own operator's node"
        assert paid_score(after) == paid_score(before), "and is priced by the same rival"


def paid_score(transcript: Transcript) -> str:
    """The score that sets the price, or nothing."""
    own = transcript.bids[0].bid.operator
    return next((one.score for one in transcript.bids if one.bid.operator != own), "")


@given(lots, bids, price_pairs, qualities)
def test_another_node_under_another_name_never_raises_the_price_of_who_still_wins(
    lot: Lot, found: list[Bid], prices: tuple[int, int], quality: int
) -> None:
    before, after = run_auction(lot, found), run_auction(lot, [*found, bid(SELF, prices, quality)])
    if after.bids[0].bid == before.bids[0].bid:
        assert after.input_price <= before.input_price
        assert after.output_price <= before.output_price


@given(lots, bids, st.integers(0, 4000), st.integers(0, 4000), st.data())
def test_payment_is_at_most_the_cap_and_the_cap_at_most_the_list_price(
    lot: Lot, found: list[Bid], max_prompt: int, max_completion: int, data: st.DataObject
) -> None:
    transcript = run_auction(lot, found)
    prompt = data.draw(st.integers(0, max_prompt))
    completion = data.draw(st.integers(0, max_completion))
    payment = owed((transcript.input_price, transcript.output_price), prompt, completion)
    cap = owed((transcript.input_price, transcript.output_price), max_prompt, max_completion)
    assert payment <= cap <= owed((INPUT_RESERVE, OUTPUT_RESERVE), max_prompt, max_completion)


def owed(prices: tuple[int, int], prompt: int, completion: int) -> int:
    return amount_owed(
        input_price=prices[0], prompt_tokens=prompt, output_price=prices[1], completion_tokens=completion
    )


@given(lots, bids)
def test_the_rule_is_what_ten_lines_say(lot: Lot, found: list[Bid]) -> None:
    """The specification, written down again and slowly."""
    ranked = sorted(found, key=lambda one: (score(lot, one), tie_break(lot.request_id, one.node_id)))
    rivals = [one for one in ranked if one.operator != ranked[0].operator]
    cleared = (INPUT_RESERVE, OUTPUT_RESERVE)
    if rivals:
        own, rival = score(lot, ranked[0]), score(lot, rivals[0])
        input_price, output_price = ranked[0].input_price * rival // own, ranked[0].output_price * rival // own
        cleared = (min(input_price, INPUT_RESERVE), min(output_price, OUTPUT_RESERVE))
    transcript = run_auction(lot, found)
    assert [one.bid for one in transcript.bids] == ranked
    assert [int(one.score) for one in transcript.bids] == [score(lot, one) for one in ranked]
    assert [int(one.cost) for one in transcript.bids] == [
        at((one.input_price, one.output_price), lot) for one in ranked
    ]
    assert (transcript.input_price, transcript.output_price) == cleared


@given(lots, st.lists(st.sampled_from([(1, 1), (2, 1), (1, 2)]), min_size=2, max_size=12), st.randoms())
def test_ties_fall_alike_in_any_order(lot: Lot, rows: list[tuple[int, int]], chance: random.Random) -> None:
    found = [bid(number, prices) for number, prices in enumerate(rows)]
    shuffled = chance.sample(found, len(found))
    raw = encode(run_auction(lot, found))
    assert encode(run_auction(lot, shuffled)) == raw == encode(verify_transcript(raw))


def test_equal_bids_win_about_equally_often() -> None:
    found = [bid(number, (20_000, 60_000)) for number in range(4)]
    won = dict.fromkeys((one.node_id for one in found), 0)
    for number in range(2000):
        lot = msgspec.structs.replace(LOT, request_id=f"req_{number:026}")
        won[run_auction(lot, found).bids[0].bid.node_id] += 1
    assert all(430 < times < 570 for times in won.values()), "the request ids are fixed, and so is this count"
