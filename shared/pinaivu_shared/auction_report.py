"""What `pinaivu auction explain` prints: an aligned table for people, one object for programs."""

from collections.abc import Iterator, Mapping
from typing import Any, assert_never

import msgspec

from pinaivu_shared.auction_explanation import ClearedPrice, Explanation, Standing, WinningTerms

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
        "bids": [_standing_fields(standing) for standing in explained.standings],
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
    yield from _table([_cells(standing) for standing in explained.standings])
    yield ""
    yield from _price_lines(explained)
    yield from _tie_lines(explained)


def _standing_fields(standing: Standing) -> dict[str, Any]:
    return {
        "rank": standing.rank,
        **msgspec.to_builtins(standing.bid),
        "cost": str(standing.cost),
        "score": str(standing.score),
        "place": standing.place,
        "margin_bps": standing.margin_bps,
        "tie_break": standing.tie_break,
        "would_have_won": _winning_fields(standing.winning) if standing.winning else None,
    }


def _winning_fields(winning: WinningTerms) -> dict[str, Any]:
    input_price, output_price = winning.prices or (None, None)
    return {
        "cost": str(winning.cost),
        "input_price": input_price,
        "output_price": output_price,
        "quality_bps": winning.quality_bps,
    }


def _cells(standing: Standing) -> tuple[str, ...]:
    bid = standing.bid
    return (
        str(standing.rank),
        bid.node_id,
        bid.operator,
        str(bid.input_price),
        str(bid.output_price),
        str(standing.cost),
        _percent(bid.quality_bps),
        str(standing.score),
        _why(standing),
    )


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    for row in [HEADINGS, *rows]:
        cells = (
            cell.rjust(width) if heading in NUMBERS else cell.ljust(width)
            for heading, cell, width in zip(HEADINGS, row, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()


def _why(standing: Standing) -> str:
    match standing.place:
        case "winner":
            return "won" if standing.margin_bps is None else f"won by {_margin(standing)}"
        case "runner_up":
            return f"lost by {_margin(standing)}, its score prices the winner; {_would(standing.winning)}"
        case "same_operator":
            return f"lost by {_margin(standing)}, no runner-up: the winner's own operator; {_would(standing.winning)}"
        case "outbid":
            return f"lost by {_margin(standing)}; {_would(standing.winning)}"
        case _:
            assert_never(standing.place)


def _margin(standing: Standing) -> str:
    if standing.margin_bps == 0 or standing.margin_bps is None:
        return "the tie-break" if standing.tie_break else "less than 0.01 %"
    return _percent(standing.margin_bps)


def _would(winning: WinningTerms | None) -> str:
    if winning is None or (winning.prices is None and winning.quality_bps is None):
        return "nothing would have won"
    price = f"at {winning.prices[0]} / {winning.prices[1]}" if winning.prices else ""
    quality = f"at quality {_percent(winning.quality_bps)}" if winning.quality_bps else ""
    only = ", by quality never" if price else ", by price never"
    return "would have won " + (f"{price} or {quality}" if price and quality else price + quality + only)


def _price_lines(explained: Explanation) -> Iterator[str]:
    winner = explained.standings[0]
    for name, price in (("input", explained.input_price), ("output", explained.output_price)):
        yield f"{name:<6} price  {price.cleared}: {_derivation(price, winner, explained.runner_up)}"


def _derivation(price: ClearedPrice, winner: Standing, runner_up: Standing | None) -> str:
    reserve = f"the list price {price.reserve}"
    if price.source == "one_operator" or runner_up is None:
        return f"{reserve}, for no other operator bids"
    if price.source == "no_score":
        return f"{reserve}, for a score of 0 scales nothing"
    scaled = f"its own {price.own} x {runner_up.score} / {winner.score} = {price.scaled}"
    return f"{scaled}, capped by {reserve}" if price.source == "reserve" else f"{scaled}, within {reserve}"


def _tie_lines(explained: Explanation) -> Iterator[str]:
    tied = [standing for standing in explained.standings if standing.tie_break]
    if tied:
        yield ""
        yield "Among equal scores the lowest SHA-256(request_id || node_id) comes first:"
    for standing in tied:
        yield f"{standing.rank:>4}  {standing.bid.node_id}  {standing.score}  {standing.tie_break}"


def _percent(bps: int) -> str:
    return f"{bps // 100}.{bps % 100:02d} %"
