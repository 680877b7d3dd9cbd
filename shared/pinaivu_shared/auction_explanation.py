"""Why each bid of an auction won or lost, and how the clearing prices follow (DESIGN section 4).

Everything is worked out from a transcript, and holds for one that `verify_transcript` gave. Prices are micro-USDC per
million tokens; shares and margins are basis points, rounded down.
"""

from collections import Counter
from typing import Literal

import msgspec

from pinaivu_shared.canonical import Digest, convert, encode
from pinaivu_shared.errors import UnreadableError, VerificationError
from pinaivu_shared.evidence_json import parse_evidence
from pinaivu_shared.ids import digest_of
from pinaivu_shared.money import BASIS_POINTS
from pinaivu_shared.second_score import Bid, Transcript, tie_break, verify_transcript

Place = Literal["winner", "runner_up", "same_operator", "outbid"]
"""`runner_up` is the first bid of another operator than the winner's, `same_operator` one of the winner's own."""
Source = Literal["runner_up", "reserve", "one_operator", "no_score"]
"""What set a price: the runner-up, the reserve that caps it; or the reserve, for want of a runner-up or of a score."""


class WinningTerms(msgspec.Struct, frozen=True):
    """What a losing bid would have won with, all else as it was.

    `cost` is the highest that wins at its quality. `prices` are input and output in the proportion of the bid's own,
    None where one would be below 1. `quality_bps` is the lowest that wins at its own prices, None where none does.
    """

    cost: int
    prices: tuple[int, int] | None
    quality_bps: int | None


class RankedBid(msgspec.Struct, frozen=True, kw_only=True):
    """One bid. `margin_bps` is its score above the winner's; for the winner, the next one's above its own.

    There is no margin without another bid, or above a score of 0. `tie_break` is empty where no other bid scores the
    same. `winning` is None for the winner, and where nothing would have won.
    """

    rank: int
    bid: Bid
    cost: int
    score: int
    place: Place
    margin_bps: int | None
    tie_break: str
    winning: WinningTerms | None


class ClearedPrice(msgspec.Struct, frozen=True, kw_only=True):
    """The winner's own price, what the rule scales it to (None without a runner-up), the reserve, and what is paid."""

    own: int
    scaled: int | None
    reserve: int
    cleared: int
    source: Source


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """An auction explained; `ranked` has its bids in order, `runner_up` is the one whose score counts, if any."""

    transcript: Transcript
    digest: str
    ranked: tuple[RankedBid, ...]
    runner_up: RankedBid | None
    input_price: ClearedPrice
    output_price: ClearedPrice


class _NamedAuction(msgspec.Struct, frozen=True):
    """What a receipt says of its auction, as far as it matters here."""

    transcript: Digest


class _NamingReceipt(msgspec.Struct, frozen=True):
    """A bundle's receipt, of whatever version: `pinaivu verify` judges the rest of it."""

    auction: _NamedAuction


def read_transcript(raw: bytes) -> Transcript:
    """The transcript in a file, itself or a whole bundle's, in whatever layout, once it was run again.

    UnreadableError for what is neither, the gateway's error body among it; VerificationError("transcript") for one
    that has a shape that none can have, does not come out of its own bids, or is not the one that the bundle's receipt
    names.
    """
    found = parse_evidence(raw, what="transcript", check="transcript")
    bundled = isinstance(found, dict) and "receipt" in found
    content = found.get("transcript") if bundled else found
    if not isinstance(content, dict) or "rule" not in content:
        raise UnreadableError("transcript: neither a transcript nor a bundle with one in it")
    transcript = verify_transcript(encode(convert(content, Transcript, check="transcript")))
    if bundled:
        _check_named(transcript, convert(found["receipt"], _NamingReceipt, check="transcript"))
    return transcript


def _check_named(transcript: Transcript, receipt: _NamingReceipt) -> None:
    if receipt.auction.transcript != digest_of(encode(transcript)):
        raise VerificationError("transcript", "is not the one whose digest the receipt carries")


def explain(transcript: Transcript) -> Explanation:
    """Everything that can be said about a transcript that was run again."""
    first = transcript.bids[0].bid
    others = (index for index, scored in enumerate(transcript.bids) if scored.bid.operator != first.operator)
    second = next(others, 0)
    scores = [int(scored.score) for scored in transcript.bids]
    counts = Counter(scores)
    ranked = tuple(
        RankedBid(
            rank=index + 1,
            bid=scored.bid,
            cost=int(scored.cost),
            score=scores[index],
            place=_place(scored.bid, index, second, first.operator),
            margin_bps=_margin_bps(scores, index),
            tie_break=_tie_break(transcript, scored.bid).hex() if counts[scores[index]] > 1 else "",
            winning=_winning_terms(transcript, scored.bid, int(scored.cost)) if index else None,
        )
        for index, scored in enumerate(transcript.bids)
    )
    runner_up = ranked[second] if second else None
    return Explanation(
        transcript=transcript,
        digest=digest_of(encode(transcript)),
        ranked=ranked,
        runner_up=runner_up,
        input_price=_cleared(
            ranked[0], runner_up, first.input_price, transcript.input_reserve_price, transcript.input_price
        ),
        output_price=_cleared(
            ranked[0], runner_up, first.output_price, transcript.output_reserve_price, transcript.output_price
        ),
    )


def _place(bid: Bid, index: int, second: int, winning_operator: str) -> Place:
    if index in {0, second}:
        return "runner_up" if index else "winner"
    return "same_operator" if bid.operator == winning_operator else "outbid"


def _margin_bps(scores: list[int], index: int) -> int | None:
    lowest = scores[0]
    if len(scores) == 1 or lowest == 0:
        return None
    return (scores[index or 1] - lowest) * BASIS_POINTS // lowest


def _tie_break(transcript: Transcript, bid: Bid) -> bytes:
    return tie_break(transcript.request_id, bid.node_id)


def _winning_terms(transcript: Transcript, bid: Bid, cost: int) -> WinningTerms | None:
    winner = transcript.bids[0]
    wins_ties = _tie_break(transcript, bid) < _tie_break(transcript, winner.bid)
    score_max = int(winner.score) - (0 if wins_ties else 1)
    if score_max < 0:
        return None
    cost_max = ((score_max + 1) * bid.quality_bps - 1) // BASIS_POINTS  # the highest whose rounded score is not above
    prices = (bid.input_price * cost_max // cost, bid.output_price * cost_max // cost)
    quality_bps = cost * BASIS_POINTS // (score_max + 1) + 1
    return WinningTerms(
        cost=cost_max,
        prices=prices if min(prices) >= 1 else None,
        quality_bps=quality_bps if quality_bps <= BASIS_POINTS else None,
    )


def _cleared(winner: RankedBid, runner_up: RankedBid | None, own: int, reserve: int, cleared: int) -> ClearedPrice:
    if runner_up is None or winner.score == 0:
        source: Source = "one_operator" if runner_up is None else "no_score"
        return ClearedPrice(own=own, scaled=None, reserve=reserve, cleared=cleared, source=source)
    scaled = own * runner_up.score // winner.score
    source = "reserve" if scaled > reserve else "runner_up"
    return ClearedPrice(own=own, scaled=scaled, reserve=reserve, cleared=cleared, source=source)
