"""Why a bid won or lost, as values: each thing that is said of an auction is tried by running the auction again."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.shared import bidding
from tests.shared.bidding import LOT

from pinaivu_shared.auction_explanation import Explanation, explain, read_transcript
from pinaivu_shared.auction_report import explanation_fields, explanation_lines
from pinaivu_shared.canonical import encode
from pinaivu_shared.errors import UnreadableError, VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.second_score import Bid, Lot, Transcript, run_auction


def bid(number: int, input_price: int, output_price: int, *, quality: int = 10_000, operator: str = "") -> Bid:
    return bidding.bid(number, input_price, output_price, quality=quality, operator=operator)


def explained(*bids: Bid, lot: Lot = LOT) -> Explanation:
    return explain(run_auction(lot, list(bids)))


GENUINE: dict[str, Any] = json.loads(encode(run_auction(LOT, [bid(1, 100, 100), bid(2, 150, 150), bid(3, 150, 150)])))
BUNDLE: dict[str, Any] = {
    "receipt": {"version": 1, "auction": {"transcript": digest_of(encode(GENUINE))}},
    "transcript": GENUINE,
    "proof": "…",
}
lots = st.builds(
    lambda prompt, completion: msgspec.structs.replace(LOT, prompt_tokens=prompt, completion_tokens=completion),
    st.integers(0, 500),
    st.integers(0, 500),
)
fields = {"quality": st.integers(1, 10_000), "operator": st.sampled_from(["", "one", "two"])}
prices = (st.integers(1, 40_000), st.integers(1, 120_000))
coarse = (st.integers(1, 3), st.integers(1, 3))
auctions = st.builds(
    lambda lot, rows: run_auction(lot, [bid(number, **row) for number, row in enumerate(rows)]),
    lots,
    st.lists(
        st.one_of(
            [
                st.fixed_dictionaries({"input_price": input_price, "output_price": output_price, **fields})
                for input_price, output_price in (prices, coarse)
            ]
        ),
        min_size=1,
        max_size=8,
    ),
)


def with_bid(transcript: Transcript, changed: Bid) -> Transcript:
    """The auction again, one bid exchanged."""
    lot = Lot(**{name: getattr(transcript, name) for name in Lot.__struct_fields__})
    return run_auction(lot, [changed if one.bid.node_id == changed.node_id else one.bid for one in transcript.bids])


def wins(transcript: Transcript, changed: Bid) -> bool:
    return with_bid(transcript, changed).bids[0].bid.node_id == changed.node_id


@given(auctions)
def test_a_loser_would_have_won_with_the_quality_named_and_with_no_lower(transcript: Transcript) -> None:
    for one in explain(transcript).ranked[1:]:
        least = one.winning.quality_bps if one.winning else None
        if least is not None:
            assert wins(transcript, msgspec.structs.replace(one.bid, quality_bps=least))
        below = (least or 10_001) - 1
        if below:
            assert not wins(transcript, msgspec.structs.replace(one.bid, quality_bps=below))


@given(auctions)
def test_a_loser_would_have_won_at_the_prices_named(transcript: Transcript) -> None:
    for one in explain(transcript).ranked[1:]:
        if one.winning and one.winning.prices:
            lower = dict(zip(("input_price", "output_price"), one.winning.prices, strict=True))
            assert wins(transcript, msgspec.structs.replace(one.bid, **lower))


@given(auctions)
@example(run_auction(msgspec.structs.replace(LOT, prompt_tokens=1, completion_tokens=0), [bid(1, 5, 1), bid(2, 9, 1)]))
def test_the_cost_named_wins_and_one_more_does_not(transcript: Transcript) -> None:
    """With one prompt token and no other, a price is a cost."""
    one_token = msgspec.structs.replace(LOT, prompt_tokens=1, completion_tokens=0)
    again = run_auction(one_token, [scored.bid for scored in transcript.bids])
    for one in explain(again).ranked[1:]:
        assert one.winning is not None, "prices are at least 1, and so are scores"
        if one.winning.cost:
            assert wins(again, msgspec.structs.replace(one.bid, input_price=one.winning.cost))
        assert not wins(again, msgspec.structs.replace(one.bid, input_price=one.winning.cost + 1))


@given(auctions)
def test_the_derivation_of_the_prices_ends_at_the_prices_of_the_transcript(transcript: Transcript) -> None:
    found = explain(transcript)
    for price in (found.input_price, found.output_price):
        paid = {"runner_up": price.scaled, "reserve": price.reserve}.get(price.source, price.reserve)
        assert price.cleared == paid
    assert (found.input_price.cleared, found.output_price.cleared) == (transcript.input_price, transcript.output_price)


@given(auctions)
def test_the_runner_up_is_the_one_without_whom_the_price_may_change(transcript: Transcript) -> None:
    found = explain(transcript)
    places = [one.place for one in found.ranked]
    assert places[0] == "winner"
    assert places.count("runner_up") == (found.runner_up is not None)
    own = found.ranked[0].bid.operator
    before = found.ranked[1 : found.runner_up.rank - 1] if found.runner_up else found.ranked[1:]
    assert all(one.place == "same_operator" and one.bid.operator == own for one in before)
    assert all((one.place == "same_operator") == (one.bid.operator == own) for one in found.ranked[1:])


@given(auctions)
def test_every_auction_can_be_told_in_lines_and_as_one_object(transcript: Transcript) -> None:
    found = explain(transcript)
    lines = list(explanation_lines(found))
    assert all(one.bid.node_id in "\n".join(lines) for one in found.ranked)
    assert len(json.loads(json.dumps(explanation_fields(found)))["bids"]) == len(found.ranked)


def why(found: Explanation, number: int) -> str:
    (line,) = (line for line in explanation_lines(found) if f"node_{number:032x}  operator" in line)
    return line.split("  ")[-1]


@pytest.mark.parametrize(
    ("bids", "said"),
    [
        ([bid(1, 100, 100)], "won"),
        ([bid(1, 100, 100), bid(2, 150, 150)], "won by 50.00 %"),
        (
            [bid(2, 100, 100), bid(1, 150, 150)],
            "lost by 50.00 %, its score prices the winner; would have won at 99 / 99, by quality never",
        ),
        (
            [bid(2, 100, 100), bid(1, 80, 80, quality=5000)],
            "lost by 60.00 %, its score prices the winner; would have won at 49 / 49 or at quality 80.01 %",
        ),
        (
            [bid(2, 100, 100, operator="operator-x"), bid(1, 125, 125, operator="operator-x")],
            "lost by 25.00 %, no runner-up: the winner's own operator; would have won at 99 / 99, by quality never",
        ),
        (
            [bid(2, 1, 1), bid(1, 1, 1, quality=9000)],
            "lost by 11.00 %, its score prices the winner; nothing would have won",
        ),
        (
            [bid(2, 1, 1, quality=9000), bid(1, 1, 1, quality=8000)],
            "lost by 12.61 %, its score prices the winner; would have won at quality 90.10 %, by price never",
        ),
        (
            [bid(2, 20_000, 60_000), bid(1, 20_000, 60_001)],
            "lost by less than 0.01 %, its score prices the winner; would have won at 19999 / 60000, by quality never",
        ),
        ([bid(4, 5, 5), bid(2, 6, 6), bid(1, 7, 7)], "lost by 40.00 %; would have won at 4 / 4, by quality never"),
    ],
)
def test_each_bid_is_told_why(bids: list[Bid], said: str) -> None:
    assert why(explained(*bids), 1) == said


def test_a_lost_tie_break_is_called_one_and_shown() -> None:
    found = explained(bid(1, 100, 100), bid(2, 100, 100), bid(3, 200, 200))
    first, second, third = found.ranked
    assert first.tie_break < second.tie_break
    assert third.tie_break == ""
    assert "lost by the tie-break" in why(found, int(second.bid.node_id[5:], 16))
    assert any(line.endswith(second.tie_break) for line in explanation_lines(found))


@pytest.mark.parametrize(
    ("bids", "input_line"),
    [
        (
            [bid(1, 100, 100), bid(2, 150, 150)],
            "input  price  150: its own 100 x 45000 / 30000 = 150, within the list price 40000",
        ),
        (
            [bid(1, 100, 100, quality=100), bid(2, 30_000, 90_000, quality=1)],
            "input  price  40000: its own 100 x 210000000000 / 3000000 = 7000000, capped by the list price 40000",
        ),
        ([bid(1, 100, 100)], "input  price  40000: the list price 40000, for no other operator bids"),
    ],
)
def test_the_clearing_price_is_derived(bids: list[Bid], input_line: str) -> None:
    assert input_line in list(explanation_lines(explained(*bids)))


def test_a_job_that_costs_nothing_is_paid_the_list_price() -> None:
    """No coordinator makes such a lot, but the rule knows what to do with it, and so does the explanation."""
    found = explained(
        bid(1, 1, 1), bid(2, 1, 1), lot=msgspec.structs.replace(LOT, prompt_tokens=0, completion_tokens=0)
    )
    assert found.input_price.source == "no_score"
    assert found.ranked[0].margin_bps is None
    assert found.ranked[1].winning is None


def test_a_transcript_and_the_bundle_around_it_read_alike_in_any_layout() -> None:
    texts = [json.dumps(GENUINE, indent=2), json.dumps(BUNDLE), encode(GENUINE).decode()]
    found = {encode(read_transcript(text.encode())) for text in texts}
    assert found == {encode(GENUINE)}
    assert explain(read_transcript(texts[0].encode())).digest == digest_of(encode(GENUINE))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# A page",
        b"[1]",
        b"{}",
        b'{"receipt": {}}',
        b'{"receipt": {}, "transcript": 1}',
        b"[" * 100_000,
        b"\xff",
        b'{"error": {"message": "no such receipt", "type": "x", "param": null, "code": "y"}}',
    ],
)
def test_what_is_neither_cannot_be_read(content: bytes) -> None:
    with pytest.raises(UnreadableError, match="transcript"):
        read_transcript(content)


@pytest.mark.parametrize(
    "content",
    [
        b'{"rule": "second-score-v2"}',
        b'{"rule": "a", "rule": "b"}',
        json.dumps({**GENUINE, "input_price": 1}).encode(),
        json.dumps({**GENUINE, "more": 1}).encode(),
        json.dumps({**BUNDLE, "transcript": {**GENUINE, "input_price": 1}}).encode(),
    ],
)
def test_what_does_not_come_out_of_its_bids_is_not_valid(content: bytes) -> None:
    with pytest.raises(VerificationError) as caught:
        read_transcript(content)
    assert caught.value.check == "transcript"


@pytest.mark.parametrize(
    ("receipt", "detail"),
    [
        ({"auction": {"transcript": "sha256:" + "0" * 64}}, "is not the one whose digest the receipt carries"),
        ({"auction": {"transcript": "sha256:"}}, r"not of the expected shape: .*auction\.transcript"),
        ({"auction": {}}, "missing required field `transcript`"),
        ({}, "missing required field `auction`"),
        ([], "not of the expected shape"),
    ],
)
def test_a_transcript_that_its_bundles_receipt_does_not_name_is_not_valid(receipt: object, detail: str) -> None:
    with pytest.raises(VerificationError, match=detail) as caught:
        read_transcript(json.dumps({**BUNDLE, "receipt": receipt}).encode())
    assert caught.value.check == "transcript"


@given(st.data())
def test_any_bytes_give_a_transcript_or_one_of_the_two_errors(data: st.DataObject) -> None:
    raw = bytearray(encode(GENUINE))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    try:
        found = encode(read_transcript(bytes(raw)))
    except (UnreadableError, VerificationError):
        return
    assert run_auction_again(found) == found


def run_auction_again(raw: bytes) -> bytes:
    transcript = msgspec.json.decode(raw, type=Transcript)
    return encode(with_bid(transcript, transcript.bids[0].bid))
