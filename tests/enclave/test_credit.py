"""Credit: held before an award, so that no customer goes below zero however many requests run at once."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinaivu_enclave.core.commands import Tick
from pinaivu_enclave.core.limits import (
    Prices,
    TokenLimits,
    estimated_prompt_tokens,
    full_limits,
    limits_within,
)
from pinaivu_shared.canonical import decode
from pinaivu_shared.ids import digest_of
from pinaivu_shared.money import charge_on, parse_usdc, payment_within
from pinaivu_shared.terms import Award
from pinaivu_shared.wire import link, link_boot

from .market import ACCOUNT, INSTANCE, Market, Node

OTHER = "acct_" + "b" * 32
FEE_BPS = 500


def award_of(awarded: link.Awarded) -> Award:
    return decode(awarded.award.payload, Award, check="award")


def cost_of(awarded: link.Awarded) -> int:
    """What an award may cost: its cap, and the fee on it rounded up."""
    cap = award_of(awarded).payment_cap
    return cap + -(-cap * FEE_BPS // 10_000)


def full_cost() -> int:
    """What the usual job of `open_job` holds where one node serves it."""
    market = Market()
    Node(market, "a").register().quote()
    return cost_of(market.open_job())


def serving(credit: int) -> tuple[Market, Node]:
    """A market with one node, and an account with this credit."""
    market = Market(credit=credit)
    return market, Node(market, "a").register().quote(slots=1_000)


def settle_in_full(market: Market, node: Node, awarded: link.Awarded) -> int:
    """Use up what the award allows; the charge."""
    award = award_of(awarded)
    claim = {"prompt_tokens": award.max_prompt_tokens, "completion_tokens": award.max_completion_tokens}
    delivery = link.Delivery(10**6, digest_of(b"answer"))
    receipt = market.settle(awarded, node, proof=node.proof(awarded, **claim), delivery=delivery)
    assert receipt.outcome == "completed"
    assert receipt.reason in {"", "credit_limit"}
    return parse_usdc(receipt.charge_amount)


def available(market: Market, account: str = ACCOUNT) -> int:
    return market.balances().get(f"customer:{account}", 0)


def test_without_a_deposit_there_is_no_award() -> None:
    market, _ = serving(0)
    assert market.open_job().reason == "insufficient_credit"


def test_an_award_holds_its_cap_and_the_fee_on_it() -> None:
    market, _ = serving(1_000)
    awarded = market.open_job()
    assert market.balances()["hold"] == cost_of(awarded)
    assert available(market) == 1_000 - cost_of(awarded)


def test_the_holds_of_one_account_are_not_anothers() -> None:
    market, _ = serving(full_cost())
    market.deposit(full_cost(), OTHER)
    market.open_job()
    assert isinstance(market.open_job(account=OTHER), link.Awarded)


@pytest.mark.parametrize("affordable", [1, 7, 60])
def test_of_500_requests_at_once_exactly_those_that_fit_are_awarded(affordable: int) -> None:
    market, node = serving(affordable * full_cost())
    answers = [market.open_job() for _ in range(500)]
    awarded = [one for one in answers if isinstance(one, link.Awarded)]
    assert answers[: len(awarded)] == awarded
    assert len(awarded) == affordable
    assert {one.reason for one in answers[affordable:]} == {"credit_held"}
    assert sum(settle_in_full(market, node, one) for one in awarded) == affordable * full_cost()
    assert available(market) == 0
    assert market.open_job().reason == "insufficient_credit"


def test_one_micro_usdc_too_little_shortens_the_last_answer() -> None:
    market, node = serving(3 * full_cost() - 1)
    awarded = [market.open_job() for _ in range(3)]
    assert [isinstance(one, link.Awarded) for one in awarded] == [True, True, False]
    for one in awarded[:2]:
        settle_in_full(market, node, one)
    last = market.open_job()
    assert award_of(last).max_prompt_tokens + award_of(last).max_completion_tokens < 464 + 100
    settle_in_full(market, node, last)


@given(credit=st.integers(1, 60))
def test_the_last_of_the_credit_buys_an_award_that_it_can_pay(credit: int) -> None:
    market, node = serving(credit)
    awarded = market.open_job()
    if isinstance(awarded, link.JobRefused):
        assert awarded.reason == "insufficient_credit"
        assert credit < 6  # 100 tokens of prompt at 0.04 and one of an answer, and the fee
        return
    assert cost_of(awarded) <= credit
    assert settle_in_full(market, node, awarded) <= credit
    assert available(market) >= 0


def end_by_settling(market: Market, node: Node, awarded: link.Awarded) -> None:
    market.settle(awarded, node)


def end_by_failure(market: Market, node: Node, awarded: link.Awarded) -> None:
    market.apply(link.ReportFailure(awarded.request_id, 1, "busy"))


def end_by_deadline(market: Market, node: Node, awarded: link.Awarded) -> None:
    market.now_ms += 1_000_000
    market.apply(Tick())


def end_by_another_host(market: Market, node: Node, awarded: link.Awarded) -> None:
    market.apply(link_boot.Introduce("1" * 32, link.LINK_PROTOCOL))


@pytest.mark.parametrize("end", [end_by_settling, end_by_failure, end_by_deadline, end_by_another_host])
def test_every_end_of_a_job_gives_its_hold_back(end: Any) -> None:
    market, node = serving(1_000)
    end(market, node, market.open_job())
    assert "hold" not in market.balances()
    charges = sum(parse_usdc(one.charge_amount) for one in market.receipts())
    assert available(market) == 1_000 - charges


def test_a_broken_link_gives_nothing_back() -> None:
    market, _ = serving(1_000)
    awarded = market.open_job()
    market.apply(link_boot.Introduce(INSTANCE, link.LINK_PROTOCOL))
    assert market.balances()["hold"] == cost_of(awarded)


def test_an_enclave_that_dies_with_its_awards_charges_nobody() -> None:
    market, _ = serving(1_000)
    market.open_job()
    again = Market(stored=tuple(market.leaves), checkpoint=market.checkpoint)
    assert available(again) == 1_000
    assert "hold" not in again.balances()


def test_the_next_award_of_a_job_takes_the_place_of_its_hold() -> None:
    """The second node is alone and so dearer: the account has no more, and the answer is shortened."""
    market = Market(credit=full_cost())
    Node(market, "cheap").register().quote(20_000, 60_000)
    Node(market, "dear").register().quote(39_000, 119_000)
    first = market.open_job(max_tokens=150)
    again = market.apply(link.ReportFailure(first.request_id, 1, "busy"))
    assert again.attempt == 2
    assert market.balances()["hold"] == cost_of(again) <= full_cost()
    assert award_of(again).input_price == 40_000


def test_a_job_whose_next_award_the_account_cannot_hold_ends_failed() -> None:
    """Another job holds the rest; were it to wait, it would wait for its own account."""
    market = Market(credit=10**6)
    cheap = Node(market, "cheap").register().quote(1_000, 3_000)
    Node(market, "dear").register().quote(2_000, 6_000)
    probe = market.open_job()
    both = 2 * cost_of(probe)
    market = Market(credit=both)
    cheap = Node(market, "cheap").register().quote(1_000, 3_000)
    Node(market, "dear").register().quote(2_000, 6_000)
    first, _ = market.open_job(), market.open_job()
    ended = market.apply(link.ReportFailure(first.request_id, 1, "busy"))
    assert isinstance(ended, link.JobSettled)
    assert (market.receipts()[-1].node_id, market.receipts()[-1].reason) == (cheap.node_id, "busy")
    assert market.balances()["hold"] == cost_of(probe)


ACTIONS = st.one_of(
    st.tuples(st.just("open"), st.sampled_from([ACCOUNT, OTHER]), st.integers(0, 300), st.integers(0, 4_000)),
    st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 400), st.integers(0, 2_000)),
    st.tuples(st.just("fail"), st.integers(0, 9), st.just(0), st.just(0)),
    st.tuples(st.just("deposit"), st.sampled_from([ACCOUNT, OTHER]), st.integers(1, 60), st.just(0)),
)


@settings(max_examples=50)
@given(actions=st.lists(ACTIONS, max_size=40))
def test_no_order_of_jobs_and_deposits_takes_anybody_below_zero(actions: list[tuple[str, Any, int, int]]) -> None:
    market = Market(credit=0)
    nodes = {node.node_id: node for node in (Node(market, name).register() for name in "ab")}
    for number, node in enumerate(nodes.values()):
        node.quote(20_000 + 3_000 * number, 60_000)
    jobs: list[link.Awarded] = []
    for what, which, amount, size in actions:
        if what == "deposit":
            market.deposit(amount, which)
        elif what == "open":
            answer = market.open_job(account=which, max_tokens=amount, request_bytes=size)
            jobs += [answer] if isinstance(answer, link.Awarded) else []
        elif jobs:
            job = jobs.pop(which % len(jobs))
            if what == "settle":
                claim = {"prompt_tokens": amount, "completion_tokens": size // 4}
                node = nodes[job.node_id]
                delivery = link.Delivery(size, digest_of(b"answer"))
                market.settle(job, node, proof=node.proof(job, **claim), delivery=delivery)
            else:
                answer = market.apply(link.ReportFailure(job.request_id, job.attempt, "busy"))
                jobs += [answer] if isinstance(answer, link.Awarded) else []
        balances = market.balances()
        assert sum(balances.values()) == 0
        assert min(available(market), available(market, OTHER)) >= 0
        assert balances.get("hold", 0) == sum(cost_of(job) for job in jobs)


PRICES = st.builds(Prices, st.integers(1, 2**40), st.integers(1, 2**40))
SIZES = st.integers(0, 2**31)


def request(request_bytes: int, max_tokens: int) -> link.OpenJob:
    return link.OpenJob(
        request_id="req_" + "0" * 26,
        account=ACCOUNT,
        model="m",
        request_commitment=digest_of(b""),
        forwarded_commitment=digest_of(b""),
        request_bytes=request_bytes,
        max_tokens=max_tokens,
        needs=("chat",),
        may_be_empty=False,
    )


@given(SIZES, SIZES, st.integers(1, 2**31), st.integers(0, 65_536))
def test_full_limits_are_within_context_request_and_the_callers_own_limit(
    request_bytes: int, max_tokens: int, context_length: int, template_allowance: int
) -> None:
    if context_length <= request_bytes // 8:
        return  # such a node is not eligible
    limits = full_limits(
        request(request_bytes, max_tokens), context_length=context_length, template_allowance=template_allowance
    )
    assert 0 <= limits.prompt <= min(context_length, request_bytes + template_allowance)
    assert 1 <= limits.completion <= (max_tokens or context_length)
    assert limits.completion <= context_length


@given(
    PRICES,
    st.tuples(st.integers(0, 2**20), st.integers(0, 2**20), st.integers(1, 2**20)),
    st.integers(0, 10**9),
    st.integers(1, 2**20),
)
def test_limits_within_a_cap_are_the_largest_that_it_pays_for(
    prices: Prices, sizes: tuple[int, int, int], cap: int, expected: int
) -> None:
    request_bytes, prompt, completion = sizes
    asked, full = request(request_bytes, 0), TokenLimits(prompt, completion)
    expected_prompt = min(prompt, estimated_prompt_tokens(asked))
    found = limits_within(full, asked, prices, cap, expected=expected)
    if found is None:
        assert prices.cap(TokenLimits(expected_prompt, 1)) > cap
        return
    assert expected_prompt <= found.prompt <= prompt
    assert 1 <= found.completion <= completion
    assert prices.cap(found) <= cap
    if found.completion < completion:
        assert prices.cap(TokenLimits(found.prompt, found.completion + 1)) > cap
    if found.completion < min(expected, completion):
        assert prices.cap(TokenLimits(expected_prompt, found.completion + 1)) > cap, "the answer comes first"
    if found.prompt < prompt:
        assert prices.cap(TokenLimits(found.prompt + 1, found.completion)) > cap


@given(st.integers(0, 10**15), st.integers(0, 10_000))
def test_payment_within_a_charge_is_the_largest_that_fits(charge: int, fee_bps: int) -> None:
    payment = payment_within(charge, fee_bps)
    assert charge_on(payment, fee_bps) <= charge < charge_on(payment + 1, fee_bps)


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 10_000))
def test_a_smaller_payment_never_costs_more(one: int, other: int, fee_bps: int) -> None:
    """Hence a hold on the cap covers whatever metering leaves of it."""
    assert charge_on(min(one, other), fee_bps) <= charge_on(max(one, other), fee_bps)
