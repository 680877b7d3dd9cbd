"""What `pinaivu auction explain` prints: an aligned table for people, one object for programs."""

from collections.abc import Iterator, Mapping
from typing import Any, assert_never

import msgspec

from pinaivu_shared.auction_explanation import ClearedPrice, Explanation, RankedBid, WinningTerms
from pinaivu_shared.report import percent

HEADINGS = ("rank", "node", "operator", "input", "output", "cost", "quality", "score", "why")
NUMBERS = frozenset({"rank", "input", "output", "cost", "quality", "score"})


def explanation_fields(explained: Explanation) -> Mapping[str, Any]:
    """The object of `--json`. Costs and scores are decimal text: they may exceed 2^53."""
    transcript = explained.transcript
    return {
        "valid": True,
        "rule": transcript.rule,
        "request_id": transcript.request_id,
        "attempt": transcript.attempt,
        "model": transcript.model,
        "transcript": explained.digest,
        "prompt_tokens": transcript.prompt_tokens,
        "completion_tokens": transcript.completion_tokens,
        "runner_up": explained.runner_up.rank if explained.runner_up else None,
        "input_price": msgspec.to_builtins(explained.input_price),
        "output_price": msgspec.to_builtins(explained.output_price),
        "bids": [_bid_fields(ranked) for ranked in explained.ranked],
    }


def explanation_lines(explained: Explanation) -> Iterator[str]:
    """The lot, the table of bids, how the clearing prices follow, and the tie-breaks if any score is shared."""
    transcript = explained.transcript
    prices = f"{transcript.input_reserve_price} input, {transcript.output_reserve_price} output"
    yield f"request      {transcript.request_id}, attempt {transcript.attempt}"
    yield f"model        {transcript.model}"
    yield f"transcript   {explained.digest}"
    yield f"rule         {transcript.rule}: score = cost x 10000 / quality, the lowest wins"
    yield f"expected     {transcript.prompt_tokens} prompt and {transcript.completion_tokens} completion tokens"
    yield f"list prices  {prices}, in micro-USDC per million tokens"
    yield ""
    yield from _table([_cells(ranked) for ranked in explained.ranked])
    yield ""
    yield from _price_lines(explained)
    yield from _tie_lines(explained)


def _bid_fields(ranked: RankedBid) -> dict[str, Any]:
    return {
        "rank": ranked.rank,
        **msgspec.to_builtins(ranked.bid),
        "cost": str(ranked.cost),
        "score": str(ranked.score),
        "place": ranked.place,
        "margin_bps": ranked.margin_bps,
        "tie_break": ranked.tie_break,
        "would_have_won": _winning_fields(ranked.winning) if ranked.winning else None,
    }


def _winning_fields(winning: WinningTerms) -> dict[str, Any]:
    input_price, output_price = winning.prices or (None, None)
    return {
        "cost": str(winning.cost),
        "input_price": input_price,
        "output_price": output_price,
        "quality_bps": winning.quality_bps,
    }


def _cells(ranked: RankedBid) -> tuple[str, ...]:
    bid = ranked.bid
    return (
        str(ranked.rank),
        bid.node_id,
        _operator(bid.operator),
        str(bid.input_price),
        str(bid.output_price),
        str(ranked.cost),
        percent(bid.quality_bps),
        str(ranked.score),
        _why(ranked),
    )


def _operator(operator: str) -> str:
    """The name and the first eight digits of the key's hash: enough for people to tell two apart."""
    name, at, key = operator.partition("@")
    return name + at + key[:8]


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    for row in [HEADINGS, *rows]:
        cells = (
            cell.rjust(width) if heading in NUMBERS else cell.ljust(width)
            for heading, cell, width in zip(HEADINGS, row, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()


def _why(ranked: RankedBid) -> str:
    match ranked.place:
        case "winner":
            return "won" if ranked.margin_bps is None else f"won by {_margin(ranked)}"
        case "runner_up":
            return f"lost by {_margin(ranked)}, its score prices the winner; {_would(ranked.winning)}"
        case "same_operator":
            return f"lost by {_margin(ranked)}, no runner-up: the winner's own operator; {_would(ranked.winning)}"
        case "outbid":
            return f"lost by {_margin(ranked)}; {_would(ranked.winning)}"
        case _:
            assert_never(ranked.place)


def _margin(ranked: RankedBid) -> str:
    if ranked.margin_bps == 0 or ranked.margin_bps is None:
        return "the tie-break" if ranked.tie_break else "less than 0.01 %"
    return percent(ranked.margin_bps)


def _would(winning: WinningTerms | None) -> str:
    if winning is None or (winning.prices is None and winning.quality_bps is None):
        return "nothing would have won"
    price = f"at {winning.prices[0]} / {winning.prices[1]}" if winning.prices else ""
    quality = f"at quality {percent(winning.quality_bps)}" if winning.quality_bps else ""
    only = ", by quality never" if price else ", by price never"
    return "would have won " + (f"{price} or {quality}" if price and quality else price + quality + only)


def _price_lines(explained: Explanation) -> Iterator[str]:
    winner = explained.ranked[0]
    for name, price in (("input", explained.input_price), ("output", explained.output_price)):
        yield f"{name:<6} price  {price.cleared}: {_derivation(price, winner, explained.runner_up)}"


def _derivation(price: ClearedPrice, winner: RankedBid, runner_up: RankedBid | None) -> str:
    reserve = f"the list price {price.reserve}"
    if price.source == "one_operator" or runner_up is None:
        return f"{reserve}, for no other operator bids"
    if price.source == "no_score":
        return f"{reserve}, for a score of 0 scales nothing"
    scaled = f"its own {price.own} x {runner_up.score} / {winner.score} = {price.scaled}"
    return f"{scaled}, capped by {reserve}" if price.source == "reserve" else f"{scaled}, within {reserve}"


def _tie_lines(explained: Explanation) -> Iterator[str]:
    tied = [ranked for ranked in explained.ranked if ranked.tie_break]
    if tied:
        yield ""
        yield "Among equal scores the lowest SHA-256(request_id || node_id) comes first:"
    for ranked in tied:
        yield f"{ranked.rank:>4}  {ranked.bid.node_id}  {ranked.score}  {ranked.tie_break}"
