"""Quality and slots: from receipts alone, in integers, never far at once, and never on a node's own word."""

import hashlib
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_enclave.core.quality_book import Standing
from pinaivu_enclave.core.settlement import FINDINGS
from pinaivu_shared.ids import digest_of
from pinaivu_shared.quality import (
    NOT_THE_NODES_FAULT,
    SLOTS_MAX,
    STEP_BPS,
    answer_sample,
    moved_quality,
    moved_slots,
    suspension_ms,
)
from pinaivu_shared.receipt import Receipt, ReceiptTiming
from pinaivu_shared.wire import link
from pinaivu_shared.wire.node import DeclineReason

from .market import MODEL, OTHER_MODEL, Market, Node

QUALITY = st.integers(1, 10_000)
SAMPLE = st.integers(0, 10_000)
SLOTS = st.integers(1, SLOTS_MAX)


@given(QUALITY, SAMPLE)
def test_one_job_moves_quality_towards_its_sample_and_never_far(quality: int, sample: int) -> None:
    moved = moved_quality(quality, sample)
    assert 1 <= moved <= 10_000
    assert abs(moved - quality) <= STEP_BPS
    assert max(1, min(quality, sample)) <= moved <= max(quality, sample)
    assert (moved == quality) == (max(1, sample) == quality)


@given(QUALITY, SAMPLE, SAMPLE)
def test_a_better_sample_never_leads_to_less(quality: int, one: int, other: int) -> None:
    assert moved_quality(quality, min(one, other)) <= moved_quality(quality, max(one, other))


@given(QUALITY, QUALITY, SAMPLE)
def test_a_better_node_stays_the_better_one_after_the_same_sample(one: int, other: int, sample: int) -> None:
    assert moved_quality(min(one, other), sample) <= moved_quality(max(one, other), sample)


@given(QUALITY, SAMPLE)
def test_equal_samples_lead_all_the_way(quality: int, sample: int) -> None:
    for _ in range(200):
        quality = moved_quality(quality, sample)
    assert quality == max(1, sample)


@given(SLOTS, st.booleans())
def test_slots_stay_within_bounds(slots: int, good: bool) -> None:  # noqa: FBT001 - drawn
    moved = moved_slots(slots, good=good)
    assert 1 <= moved <= SLOTS_MAX
    assert slots - max(1, slots // 8) <= moved <= slots + 1
    assert moved > slots if good and slots < SLOTS_MAX else moved <= slots


@given(SLOTS, SLOTS, st.booleans())
def test_more_slots_stay_more_slots(one: int, other: int, good: bool) -> None:  # noqa: FBT001 - drawn
    assert moved_slots(min(one, other), good=good) <= moved_slots(max(one, other), good=good)


TIMES = st.integers(0, 2**40)


@given(TIMES, TIMES, st.none() | TIMES, st.lists(TIMES, max_size=63), st.lists(TIMES, max_size=63))
def test_the_sample_of_an_answer_is_good_whatever_its_times(
    first: int, duration: int, speed: int | None, first_tokens: list[int], speeds: list[int]
) -> None:
    timing = ReceiptTiming(first_token_ms=first, duration_ms=duration)
    sample = answer_sample(timing, speed, first_tokens=first_tokens, speeds=speeds)
    assert 6_000 <= sample <= 10_000


@given(TIMES, TIMES, st.lists(TIMES, min_size=1, max_size=63), TIMES, TIMES)
def test_a_slower_answer_is_never_the_better_sample(
    one: int, other: int, first_tokens: list[int], slow: int, fast: int
) -> None:
    def sample(first: int, speed: int) -> int:
        timing = ReceiptTiming(first_token_ms=first, duration_ms=first)
        return answer_sample(timing, speed, first_tokens=first_tokens, speeds=[1_000])

    assert sample(max(one, other), min(slow, fast)) <= sample(min(one, other), max(slow, fast))


def test_a_suspension_doubles_ten_times_at_most() -> None:
    assert [suspension_ms(1_000, offences) for offences in (0, 1, 2, 10, 11, 500)] == [
        1_000, 2_000, 4_000, 1_024_000, 1_024_000, 1_024_000,
    ]  # fmt: skip


def standing(market: Market, node: Node) -> Standing:
    state = market.coordinator._state
    return state.quality.standing(node.node_id, state.terms)


def worked(market: Market, node: Node, times: int = 1, **changes: Any) -> Receipt:
    """Let the node answer `times` jobs; the last receipt."""
    receipt = None
    for _ in range(times):
        receipt = market.settle(market.open_job(), node, **changes)
    assert receipt is not None
    return receipt


def test_a_new_node_begins_at_the_prior_on_probation(probation: Market) -> None:
    node = Node(probation, "a").register().quote()
    assert (standing(probation, node).quality_bps, standing(probation, node).slots) == (7_500, 2)


def test_good_work_raises_quality_and_slots(probation: Market) -> None:
    node = Node(probation, "a").register().quote()
    worked(probation, node, 5)
    assert standing(probation, node).quality_bps > 7_500
    assert standing(probation, node).slots == 7


@pytest.mark.parametrize("reason", ["node_disconnected", "no_first_token", "busy", "made_up", ""])
def test_a_failure_lowers_quality_and_slots(probation: Market, reason: str) -> None:
    node = Node(probation, "a").register().quote()
    probation.apply(link.ReportFailure(probation.open_job().request_id, 1, reason))
    assert (standing(probation, node).quality_bps, standing(probation, node).slots) == (7_250, 1)


@pytest.mark.parametrize("reason", sorted(NOT_THE_NODES_FAULT - FINDINGS))
def test_what_is_not_the_nodes_fault_moves_nothing(market: Market, cheap: Node, reason: str) -> None:
    market.settle(market.open_job(), cheap, outcome="failed", reason=reason, proof=None)
    assert standing(market, cheap) == Standing(7_500, 1_024)


@pytest.mark.parametrize("reason", get_args(DeclineReason))
def test_a_node_that_declines_what_it_has_begun_has_failed(market: Market, cheap: Node, reason: str) -> None:
    """Else it could break every answer after its first token, and blame the request."""
    awarded = market.open_job()
    market.apply(cheap.accept(awarded))
    market.apply(link.ReportFirstToken(awarded.request_id, 1))
    begun = link.Delivery(5, digest_of(b"begun"))
    market.apply(link.SettleJob(awarded.request_id, "failed", reason, begun, None))
    assert market.receipts()[-1].reason == "node_failed"
    assert standing(market, cheap).quality_bps == 7_250


def test_each_failed_attempt_counts_for_its_own_node(market: Market, cheap: Node, dear: Node) -> None:
    again = market.apply(link.ReportFailure(market.open_job().request_id, 1, "busy"))
    assert standing(market, cheap) == Standing(7_500, 1_024)  # nothing is known before there is a receipt
    market.settle(again, dear)
    assert standing(market, cheap).quality_bps == 7_250
    assert standing(market, dear).quality_bps > 7_500


def test_a_failed_attempt_for_no_fault_of_the_node_moves_nothing(market: Market, cheap: Node, dear: Node) -> None:
    cheap.quote(context_length=500)
    again = market.apply(link.ReportFailure(market.open_job().request_id, 1, "context_length_exceeded"))
    market.settle(again, dear, proof=dear.proof(again, prompt_tokens=464))
    assert standing(market, cheap) == Standing(7_500, 1_024)


def test_a_node_that_declines_because_it_leaves_should_have_withdrawn_its_quotes(
    market: Market, cheap: Node, dear: Node
) -> None:
    """Nodes that always say so could keep every caller from the others at no cost."""
    again = market.apply(link.ReportFailure(market.open_job().request_id, 1, "draining"))
    market.settle(again, dear)
    assert standing(market, cheap).quality_bps == 7_250


@pytest.mark.parametrize(
    ("proof", "recounted"),
    [
        ({"completion_tokens": 0}, None),
        ({"completion_tokens": 90}, 50),
        ({"completion_tokens": 10**6}, None),
        ({"outcome": "failed"}, None),
        ({"response_commitment": digest_of(b"else")}, None),
    ],
    ids=["no usage", "above the recount", "absurd", "failed", "another answer"],
)
def test_an_answer_that_is_not_proven_counts_as_a_failure(
    market: Market, cheap: Node, proof: dict[str, Any], recounted: int | None
) -> None:
    awarded = market.open_job()
    delivery = link.Delivery(300, digest_of(b"answer"), recounted)
    market.settle(awarded, cheap, proof=cheap.proof(awarded, **proof), delivery=delivery)
    assert standing(market, cheap).changes[0].sample_bps == 0
    assert standing(market, cheap).quality_bps <= 7_250


def test_more_tokens_than_bytes_say_nothing_of_a_node(market: Market, cheap: Node) -> None:
    """Hidden tokens are possible: they are not paid, and not held against it."""
    receipt = worked(market, cheap, delivery=link.Delivery(20, digest_of(b"answer")))
    assert (receipt.reason, receipt.completion_tokens) == ("usage_cut", 28)
    assert standing(market, cheap) == Standing(7_500, 1_024)


def timed(market: Market, node: Node, *, first_ms: int, generating_ms: int, **changes: Any) -> None:
    awarded = market.open_job(**changes)
    market.apply(node.accept(awarded))
    market.now_ms += first_ms
    market.apply(link.ReportFirstToken(awarded.request_id, awarded.attempt))
    market.now_ms += generating_ms
    market.apply(node.completed(awarded))


@pytest.mark.parametrize(("first_ms", "generating_ms"), [(2_000, 1_000), (100, 20_000)], ids=["late", "slow"])
def test_answers_later_or_slower_than_the_median_are_worth_less(first_ms: int, generating_ms: int) -> None:
    market = Market()
    node = Node(market, "a").register().quote(expires_ms=market.now_ms + 120_000)
    for _ in range(9):
        timed(market, node, first_ms=100, generating_ms=1_000)
    assert standing(market, node).changes[-1].sample_bps == 10_000
    timed(market, node, first_ms=first_ms, generating_ms=generating_ms)
    assert 8_000 <= standing(market, node).changes[-1].sample_bps < 8_300


def test_models_are_not_measured_against_each_other() -> None:
    market = Market()
    node = Node(market, "a").register().quote(expires_ms=market.now_ms + 120_000)
    node.quote(model=OTHER_MODEL, expires_ms=market.now_ms + 120_000)
    timed(market, node, first_ms=10, generating_ms=100)
    timed(market, node, first_ms=5_000, generating_ms=50_000, model=OTHER_MODEL)
    assert standing(market, node).changes[-1].sample_bps == 10_000


def test_what_the_node_says_of_its_own_times_counts_for_nothing(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    market.apply(cheap.accept(awarded))
    market.now_ms += 5_000
    boast = cheap.proof(awarded, first_token_ms=0, duration_ms=1)
    market.apply(cheap.completed(awarded, proof=boast))
    timing = market.receipts()[-1].timing
    assert (timing.first_token_ms, timing.duration_ms) == (5_000, 5_000)


def test_a_better_node_wins_against_a_cheaper_one(market: Market) -> None:
    good = Node(market, "good").register().quote(20_000, 60_000)
    worked(market, good, 40)
    Node(market, "new").register().quote(19_000, 57_000)
    assert market.open_job().node_id == good.node_id


def test_slots_are_counted_over_all_models(probation: Market) -> None:
    node = Node(probation, "a").register().quote(slots=8).quote(model=OTHER_MODEL, slots=8)
    models = [MODEL, OTHER_MODEL, MODEL, OTHER_MODEL]
    answers = [probation.open_job(model=model) for model in models]
    assert [isinstance(one, link.Awarded) for one in answers] == [True, True, False, False]
    assert {one.reason for one in answers[2:]} == {"no_free_slot"}
    probation.settle(answers[0], node)
    assert isinstance(probation.open_job(model=OTHER_MODEL), link.Awarded)


def test_a_model_has_no_more_slots_than_its_quote_says(market: Market) -> None:
    Node(market, "a").register().quote(slots=1).quote(model=OTHER_MODEL, slots=2)
    models = [MODEL, MODEL, OTHER_MODEL, OTHER_MODEL, OTHER_MODEL]
    answers = [market.open_job(model=model) for model in models]
    assert [isinstance(one, link.Awarded) for one in answers] == [True, False, True, True, False]


def test_fewer_slots_end_no_job_that_runs(probation: Market) -> None:
    node = Node(probation, "a").register().quote()
    first, second = probation.open_job(), probation.open_job()
    probation.apply(link.ReportFailure(first.request_id, 1, "busy"))
    assert standing(probation, node).slots == 1
    assert probation.open_job().reason == "no_free_slot"
    assert probation.settle(second, node).outcome == "completed"


def test_standings_come_back_after_a_restart_and_are_judged_by_the_terms_of_their_time(market: Market) -> None:
    node = Node(market, "a").register().quote()
    worked(market, node, 3)
    market.apply(link.ReportFailure(market.open_job().request_id, 1, "busy"))
    market.acknowledge()
    other_terms = msgspec.structs.replace(market.configuration.nodes, prior_bps=100, probation_slots=1)
    again = Market(stored=tuple(market.leaves), checkpoint=market.checkpoint, nodes=other_terms)
    assert standing(again, node) == standing(market, node)
    assert standing(again, Node(again, "b")) == Standing(100, 1)


def test_a_nodes_name_is_no_secret_but_its_key_is() -> None:
    """Quality belongs to a key: another operator's name brings none of it along."""
    market = Market()
    known = Node(market, "known", operator="famous").register().quote()
    worked(market, known, 20)
    copy = Node(market, hashlib.sha256(b"copy").hexdigest(), operator="famous").register()
    assert standing(market, copy).quality_bps == 7_500
