"""What docs/auction.md says of populations of bidders holds in a run of 3,000 auctions, whose chance is fixed."""

import pytest

from pinaivu_simulator.populations import (
    FLAPPING,
    GREEDY,
    OTHERS,
    SHADING,
    SLOW,
    SYBIL_FIVE_NAMES,
    SYBIL_ONE_NAME,
    TRUTHFUL,
    Behaviour,
    Figures,
    Outcome,
    simulate,
)

AUCTIONS = 3000


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return simulate(seed=11, auctions=AUCTIONS)


def figures_of(outcome: Outcome, behaviour: Behaviour) -> Figures:
    (found,) = outcome.of(behaviour)
    return found


def test_every_auction_has_one_winner_paid_between_its_ask_and_the_list_price(outcome: Outcome) -> None:
    assert sum(figures.jobs for figures in outcome.bidders) == AUCTIONS
    assert outcome.violations == 0


@pytest.mark.parametrize("behaviour", [GREEDY, SHADING], ids=lambda behaviour: behaviour.name)
def test_asking_double_or_below_cost_earns_less_than_asking_the_cost(outcome: Outcome, behaviour: Behaviour) -> None:
    found = figures_of(outcome, behaviour)
    assert found.jobs > 0
    assert found.profit < 0.9 * found.profit_as_truthful


def test_greed_wins_too_seldom_and_shading_wins_jobs_that_do_not_pay(outcome: Outcome) -> None:
    honest = sum(figures.jobs for figures in outcome.of(TRUTHFUL)) / len(outcome.of(TRUTHFUL))
    assert figures_of(outcome, GREEDY).jobs < honest < figures_of(outcome, SHADING).jobs
    assert any(sample.paid < sample.cost for sample in figures_of(outcome, SHADING).samples)
    for figures in outcome.bidders:
        if figures.behaviour != SHADING:
            assert all(sample.cost <= sample.paid <= 1 for sample in figures.samples)


def test_five_nodes_under_one_name_earn_exactly_what_one_does(outcome: Outcome) -> None:
    found = figures_of(outcome, SYBIL_ONE_NAME)
    assert found.profit == found.profit_as_truthful > 0


def test_five_nodes_under_five_names_earn_nothing_for_they_price_each_other(outcome: Outcome) -> None:
    found = figures_of(outcome, SYBIL_FIVE_NAMES)
    assert (found.jobs > 0, found.profit) == (True, 0)
    assert found.profit_as_truthful > 0


def test_flapping_earns_in_proportion_to_the_time_it_stands(outcome: Outcome) -> None:
    found = figures_of(outcome, FLAPPING)
    assert 0.4 < found.profit / found.profit_as_truthful < 0.6


def test_slow_wins_seldom_and_is_paid_less_for_its_cost(outcome: Outcome) -> None:
    slow, honest = figures_of(outcome, SLOW), outcome.of(TRUTHFUL)
    assert slow.jobs < min(one.jobs for one in honest) / 2
    assert slow.paid / slow.cost < min(one.paid / one.cost for one in honest)


def test_truthful_bidders_are_paid_more_than_they_asked(outcome: Outcome) -> None:
    for one in outcome.of(TRUTHFUL):
        assert one.paid > 1.2 * one.asked
        assert one.asked == one.cost


def test_one_seed_gives_one_outcome_and_another_gives_another() -> None:
    assert simulate(seed=1, auctions=40) == simulate(seed=1, auctions=40)
    assert simulate(seed=1, auctions=40) != simulate(seed=2, auctions=40)


def test_kinds_have_names_of_their_own() -> None:
    assert len({behaviour.name for behaviour in (TRUTHFUL, *OTHERS)}) == 7
