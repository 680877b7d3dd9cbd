"""The auction rule `second-score-v1` and the transcript that lets anyone run it again (DESIGN section 4).

Integers only. Prices are micro-USDC per million tokens; `cost` and `score` are in the same unit times tokens.
"""

import hashlib
from collections import Counter
from operator import itemgetter
from typing import Annotated, Final, Literal

import msgspec

from pinaivu_shared.canonical import CanonicalStruct, Digest, Name, Natural, ShortName, decode, encode
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import NodeId, RequestId
from pinaivu_shared.money import BASIS_POINTS
from pinaivu_shared.terms import PositivePrice, TokenCount

MAX_TRANSCRIPT_BYTES: Final = 4 * 1024 * 1024
BigNatural = Annotated[str, msgspec.Meta(pattern=r"\A(0|[1-9][0-9]{0,39})\Z")]


class Bid(CanonicalStruct, frozen=True):
    """An eligible quote as the auction saw it. `quote` is the digest of its signed payload."""

    node_id: NodeId
    operator: ShortName
    quote: Digest
    input_price: PositivePrice
    output_price: PositivePrice
    quality_bps: Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class ScoredBid(CanonicalStruct, frozen=True):
    """A bid and what the rule made of it; lower scores win. The numbers are decimal text: they may exceed 2^53."""

    bid: Bid
    cost: BigNatural
    score: BigNatural


class Transcript(CanonicalStruct, frozen=True):
    """Everything the rule looked at and what came out. `bids` is in order of rank, so the first one won."""

    rule: Literal["second-score-v1"]
    request_id: RequestId
    attempt: Annotated[int, msgspec.Meta(ge=1, le=3)]
    model: Name
    prompt_tokens: TokenCount
    completion_tokens: TokenCount
    input_reserve_price: PositivePrice
    output_reserve_price: PositivePrice
    bids: Annotated[tuple[ScoredBid, ...], msgspec.Meta(min_length=1)]
    input_price: Natural
    output_price: Natural


class Lot(msgspec.Struct, frozen=True, kw_only=True):
    """What is auctioned: a job with its expected token counts and the model's reserve prices."""

    request_id: str
    attempt: int
    model: str
    prompt_tokens: int
    completion_tokens: int
    input_reserve_price: int
    output_reserve_price: int


def run_auction(lot: Lot, bids: list[Bid]) -> Transcript:
    """Rank the bids and price the winner: its own prices scaled by runner-up score over own score, never above reserve.

    The order of `bids` does not matter. A winner without a runner-up of another operator is paid the reserve prices.
    """
    ranked = _ranked(lot, bids)
    winning_score, _, winner = ranked[0]
    runner_up = next((score for score, _, bid in ranked if bid.operator != winner.operator), None)
    input_price, output_price = _clearing_prices(lot, winner, winning_score, runner_up)
    return Transcript(
        rule="second-score-v1",
        request_id=lot.request_id,
        attempt=lot.attempt,
        model=lot.model,
        prompt_tokens=lot.prompt_tokens,
        completion_tokens=lot.completion_tokens,
        input_reserve_price=lot.input_reserve_price,
        output_reserve_price=lot.output_reserve_price,
        bids=tuple([ScoredBid(bid=bid, cost=str(cost), score=str(score)) for score, cost, bid in ranked]),
        input_price=input_price,
        output_price=output_price,
    )


def verify_transcript(raw: bytes) -> Transcript:
    """The transcript, once running the rule on its bids gave the very same bytes; VerificationError otherwise."""
    transcript = decode(raw, Transcript, check="transcript", max_bytes=MAX_TRANSCRIPT_BYTES)
    lot = Lot(**{name: getattr(transcript, name) for name in Lot.__struct_fields__})
    bids = [scored.bid for scored in transcript.bids]
    if len({bid.node_id for bid in bids}) != len(bids):
        raise VerificationError("transcript", "one node bids twice")
    again = run_auction(lot, bids)
    if encode(again) != raw:
        raise VerificationError("transcript", "running second-score-v1 on its bids gives another result")
    return transcript


def tie_break(request_id: str, node_id: str) -> bytes:
    """Where scores are equal, the lower of these 32 bytes ranks first."""
    return hashlib.sha256((request_id + node_id).encode()).digest()


def _ranked(lot: Lot, bids: list[Bid]) -> list[tuple[int, int, Bid]]:
    """Score, cost and bid, the winner first. Sorting is stable: only equal scores see the order of the tie-breaks."""
    prompt, completion = lot.prompt_tokens, lot.completion_tokens
    scored = []
    for bid in bids:
        cost = bid.input_price * prompt + bid.output_price * completion
        scored.append((cost * BASIS_POINTS // bid.quality_bps, cost, bid))
    scores = [row[0] for row in scored]
    if len(set(scores)) < len(scores):
        tied = {score for score, count in Counter(scores).items() if count > 1}
        scored.sort(key=lambda row: tie_break(lot.request_id, row[2].node_id) if row[0] in tied else b"")
    scored.sort(key=itemgetter(0))
    return scored


def _clearing_prices(lot: Lot, winner: Bid, score: int, runner_up: int | None) -> tuple[int, int]:
    if runner_up is None or score == 0:
        return lot.input_reserve_price, lot.output_reserve_price
    return (
        min(winner.input_price * runner_up // score, lot.input_reserve_price),
        min(winner.output_price * runner_up // score, lot.output_reserve_price),
    )
