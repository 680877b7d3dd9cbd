"""The auction beside sorting as many integers, and what nodes that serve other models cost a request.

Everything is compared with its twin in turns, so that a drifting machine moves both.
"""

import functools
import random
import time
from collections.abc import Callable
from statistics import median

from tests.enclave.market import MODEL, ORIGIN, OTHER_MODEL, START_MS, Market, Node

from pinaivu_enclave.core.quality_book import QualityBook
from pinaivu_enclave.core.quote_book import Ineligible, QuoteBook, StandingQuote, bid_of
from pinaivu_shared.canonical import encode
from pinaivu_shared.configuration import MAX_NODES, parse_configuration
from pinaivu_shared.second_score import Bid, Lot, run_auction
from pinaivu_shared.terms import Quote
from pinaivu_shared.wire.link import Awarded
from pinaivu_simulator.market import market_configuration

NODES = 1_000
BYSTANDERS = 10_000
ROUNDS = 25
JOBS = 40
BIDDERS = 3
LOT = Lot(
    request_id="req_01m7q5cqg04s5atv5pvmggzb6k",
    attempt=1,
    model=MODEL,
    prompt_tokens=100,
    completion_tokens=256,
    input_reserve_price=40_000,
    output_reserve_price=120_000,
)


def bench_auction() -> list[tuple[str, str]]:
    """Rows of (what, figure)."""
    return [*_beside_sorting(), *_with_bystanders(), *_requests_with_bystanders()]


def _beside_sorting() -> list[tuple[str, str]]:
    chance = random.Random(3)
    book = _book(NODES, chance)
    bids = _eligible(book)
    transcript = run_auction(LOT, bids)
    scores = [int(scored.score) for scored in transcript.bids]
    chance.shuffle(scores)
    steps: dict[str, Callable[[], object]] = {
        "sorting": lambda: sorted(scores),
        "eligible": lambda: _eligible(book),
        "rule": lambda: run_auction(LOT, bids),
        "encode": lambda: encode(transcript),
        "whole": lambda: encode(run_auction(LOT, _eligible(book))),
    }
    spent = _in_turns(steps)
    ratios = [whole / sorting for whole, sorting in zip(spent["whole"], spent["sorting"], strict=True)]
    parts = ", ".join(f"{name} {median(spent[name]) * 1e6:,.0f}" for name in ("eligible", "rule", "encode"))
    return [
        (f"auction of {NODES:,} eligible nodes, transcript included", f"{median(spent['whole']) * 1e6:,.0f} µs"),
        ("its parts in µs", parts),
        (f"auction of {NODES:,} eligible nodes / sorting {NODES:,} integers, its scores", f"{median(ratios):.0f}"),
    ]


def _with_bystanders() -> list[tuple[str, str]]:
    """The auction's computation alone, so that the ratio hides behind no signature."""
    alone = _book(BIDDERS, random.Random(4))
    among = _book(BIDDERS, random.Random(4), bystanders=BYSTANDERS)
    ratio = _ratio(*(functools.partial(_auctions, book) for book in (among, alone)))
    return [(f"cost of an auction, with {BYSTANDERS:,} nodes of other models / without", f"{ratio:.2f}")]


def _requests_with_bystanders() -> list[tuple[str, str]]:
    """The whole command, as many nodes registered as a configuration allows."""
    alone, among = (_market(bystanders) for bystanders in (0, MAX_NODES - BIDDERS))
    ratio = _ratio(*(functools.partial(_open_jobs, market) for market in (among, alone)))
    return [(f"cost of OpenJob, with {MAX_NODES - BIDDERS:,} nodes of other models / without", f"{ratio:.2f}")]


def _in_turns(steps: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each step in each round."""
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            spent[name].append(time.perf_counter() - started)
    return spent


def _ratio(one: Callable[[], object], other: Callable[[], object]) -> float:
    spent = _in_turns({"one": one, "other": other})
    return median(first / second for first, second in zip(spent["one"], spent["other"], strict=True))


def _auctions(book: QuoteBook) -> None:
    for _ in range(JOBS):
        encode(run_auction(LOT, _eligible(book)))


def _open_jobs(market: Market) -> None:
    for _ in range(JOBS):
        assert isinstance(market.open_job(), Awarded)


def _eligible(book: QuoteBook) -> list[Bid]:
    found = book.eligible(MODEL, needs=("chat",), prompt_tokens=100, excluded=frozenset(), now_ms=START_MS)
    assert not isinstance(found, Ineligible)
    quality, terms = book._quality, book._configuration.nodes
    return [bid_of(one, quality_bps=quality.standing(one.quote.node_id, terms).quality_bps) for one in found]


def _book(nodes: int, chance: random.Random, *, bystanders: int = 0) -> QuoteBook:
    configuration = parse_configuration(market_configuration(ORIGIN, [MODEL, OTHER_MODEL]))
    book = QuoteBook(configuration, QualityBook())
    for number in range(nodes + bystanders):
        book.post(_quote(number, MODEL if number < nodes else OTHER_MODEL, chance), START_MS)
    return book


def _quote(number: int, model: str, chance: random.Random) -> StandingQuote:
    quote = Quote(
        session=f"ses_{number:032x}",
        sequence=1,
        node_id=f"node_{number:032x}",
        model=model,
        input_price=chance.randint(1, LOT.input_reserve_price),
        output_price=chance.randint(1, LOT.output_reserve_price),
        slots=64,
        context_length=2048,
        capabilities=("chat",),
        expires_ms=START_MS + 60_000,
    )
    return StandingQuote(quote, "sha256:" + "0" * 64, f"operator-{number}")


def _market(bystanders: int) -> Market:
    market = Market(max_nodes=MAX_NODES)
    for number in range(BIDDERS):
        Node(market, f"node-{number}").register().quote(20_000 + number, 60_000, slots=ROUNDS * JOBS)
    for number in range(bystanders):
        Node(market, f"bystander-{number}").register().quote(model=OTHER_MODEL)
    return market
