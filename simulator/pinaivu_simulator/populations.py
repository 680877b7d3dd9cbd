"""Populations of bidders under `second-score-v1`: what each kind of behaviour wins, is paid and earns.

Pure: the seed and the number of auctions give the figures. Every bidder draws a new cost for every auction, all from
one distribution, so that kinds differ in behaviour alone. Each auction is run once as it is, and once more for each
kind as if that one bidder had been truthful: the difference is what its behaviour earned or cost it. Jobs come out
with the tokens that were expected, for this is about the rule and not about estimates.

Amounts are millionths of a micro-USDC: price times tokens, before the payment is rounded.
"""

import random
from collections.abc import Iterator
from typing import Final

import msgspec

from pinaivu_shared.ids import make_request_id
from pinaivu_shared.second_score import Bid, Lot, Transcript, run_auction
from pinaivu_simulator.market import INPUT_RESERVE_PRICE, OUTPUT_RESERVE_PRICE

COST_SHARE_PERCENT: Final = (15, 90)
"""What a job costs its bidder, as a share of the list price; each of the two prices strays from it by a tenth."""
COMES_OR_GOES_PERCENT: Final = 5
SAMPLES_MAX: Final = 90
QUOTE: Final = "sha256:" + "0" * 64


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of bidder. It asks `ask_percent` of its cost, through so many nodes under so many operators' names."""

    name: str
    ask_percent: int = 100
    nodes: int = 1
    operators: int = 1
    quality_bps: int = 9000
    flaps: bool = False


TRUTHFUL: Final = Behaviour(name="truthful")
GREEDY: Final = Behaviour(name="greedy", ask_percent=200)
SHADING: Final = Behaviour(name="shading", ask_percent=75)
SYBIL_ONE_NAME: Final = Behaviour(name="sybil, one name", nodes=5)
SYBIL_FIVE_NAMES: Final = Behaviour(name="sybil, five names", nodes=5, operators=5)
FLAPPING: Final = Behaviour(name="flapping", flaps=True)
SLOW: Final = Behaviour(name="slow", quality_bps=6000)
OTHERS: Final = (GREEDY, SHADING, SYBIL_ONE_NAME, SYBIL_FIVE_NAMES, FLAPPING, SLOW)
POPULATION: Final = (*(TRUTHFUL,) * 3, *OTHERS)


class Sample(msgspec.Struct, frozen=True):
    """A job won: its cost and its payment, as shares of the list price."""

    cost: float
    paid: float


class Figures(msgspec.Struct, kw_only=True):
    """What one bidder of a kind came to: jobs won, and over these what it asked, what they cost, what it was paid."""

    behaviour: Behaviour
    jobs: int = 0
    asked: int = 0
    cost: int = 0
    paid: int = 0
    profit_as_truthful: int = 0
    samples: list[Sample] = msgspec.field(default_factory=list)

    @property
    def profit(self) -> int:
        """What it was paid beyond its cost."""
        return self.paid - self.cost


class Outcome(msgspec.Struct, kw_only=True):
    """All auctions. A `violation` is a price above the list, or below what the winner asked."""

    auctions: int
    bidders: list[Figures]
    violations: int = 0

    def of(self, behaviour: Behaviour) -> list[Figures]:
        """Every bidder of that kind."""
        return [figures for figures in self.bidders if figures.behaviour == behaviour]


class _Draw(msgspec.Struct, frozen=True):
    """One auction's chance: the lot, each bidder's cost as prices, and whether its quotes stand."""

    lot: Lot
    costs: list[tuple[int, int]]
    standing: list[bool]


def simulate(*, seed: int, auctions: int) -> Outcome:
    """Run so many auctions of POPULATION."""
    outcome = Outcome(auctions=auctions, bidders=[Figures(behaviour=behaviour) for behaviour in POPULATION])
    for draw in _draws(random.Random(seed), auctions):
        bids = [_bids(index, behaviour, draw) for index, behaviour in enumerate(POPULATION)]
        _count(outcome, draw, _auction(draw, bids))
        for index, behaviour in enumerate(POPULATION):
            as_truthful = _bids(index, TRUTHFUL, draw)
            if behaviour != TRUTHFUL:
                _count_as_truthful(
                    outcome, draw, _auction(draw, [*bids[:index], as_truthful, *bids[index + 1 :]]), index
                )
    for figures in outcome.of(TRUTHFUL):
        figures.profit_as_truthful = figures.profit
    return outcome


def _draws(chance: random.Random, auctions: int) -> Iterator[_Draw]:
    standing = [True] * len(POPULATION)
    for number in range(auctions):
        lot = Lot(
            request_id=make_request_id(number, bytes(10)),
            attempt=1,
            model="m",
            prompt_tokens=chance.randint(20, 2000),
            completion_tokens=chance.randint(10, 1000),
            input_reserve_price=INPUT_RESERVE_PRICE,
            output_reserve_price=OUTPUT_RESERVE_PRICE,
        )
        costs = [_cost(chance) for _ in POPULATION]
        standing = [
            one != (behaviour.flaps and chance.randrange(100) < COMES_OR_GOES_PERCENT)
            for one, behaviour in zip(standing, POPULATION, strict=True)
        ]
        yield _Draw(lot, costs, standing)


def _cost(chance: random.Random) -> tuple[int, int]:
    share = chance.randint(*COST_SHARE_PERCENT)
    return (
        INPUT_RESERVE_PRICE * share * chance.randint(90, 110) // 10_000,
        OUTPUT_RESERVE_PRICE * share * chance.randint(90, 110) // 10_000,
    )


def _bids(index: int, behaviour: Behaviour, draw: _Draw) -> list[Bid]:
    """What a bidder quotes: nothing above the list price, for no such quote stands."""
    if behaviour.flaps and not draw.standing[index]:
        return []
    input_cost, output_cost = draw.costs[index]
    return [
        Bid(
            node_id=f"node_{index:016x}{node:016x}",
            operator=f"operator-{index}-{node % behaviour.operators}",
            quote=QUOTE,
            input_price=min(input_cost * behaviour.ask_percent // 100, INPUT_RESERVE_PRICE),
            output_price=min(output_cost * behaviour.ask_percent // 100, OUTPUT_RESERVE_PRICE),
            quality_bps=behaviour.quality_bps,
        )
        for node in range(behaviour.nodes)
    ]


def _auction(draw: _Draw, bids: list[list[Bid]]) -> tuple[int, Transcript]:
    """The winning bidder and the transcript."""
    transcript = run_auction(draw.lot, [bid for own in bids for bid in own])
    return int(transcript.bids[0].bid.node_id[5:21], 16), transcript


def _count(outcome: Outcome, draw: _Draw, ended: tuple[int, Transcript]) -> None:
    winner, transcript = ended
    figures, bid = outcome.bidders[winner], transcript.bids[0].bid
    cost, paid = _at(draw.lot, *draw.costs[winner]), _at(draw.lot, transcript.input_price, transcript.output_price)
    figures.jobs += 1
    figures.asked += _at(draw.lot, bid.input_price, bid.output_price)
    figures.cost += cost
    figures.paid += paid
    fair = (
        bid.input_price <= transcript.input_price <= INPUT_RESERVE_PRICE
        and bid.output_price <= transcript.output_price <= OUTPUT_RESERVE_PRICE
    )
    outcome.violations += not fair
    if len(figures.samples) < SAMPLES_MAX:
        listed = _at(draw.lot, INPUT_RESERVE_PRICE, OUTPUT_RESERVE_PRICE)
        figures.samples.append(Sample(cost / listed, paid / listed))


def _count_as_truthful(outcome: Outcome, draw: _Draw, ended: tuple[int, Transcript], bidder: int) -> None:
    winner, transcript = ended
    if winner == bidder:
        paid = _at(draw.lot, transcript.input_price, transcript.output_price)
        outcome.bidders[bidder].profit_as_truthful += paid - _at(draw.lot, *draw.costs[bidder])


def _at(lot: Lot, input_price: int, output_price: int) -> int:
    return input_price * lot.prompt_tokens + output_price * lot.completion_tokens
