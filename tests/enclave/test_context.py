"""Contexts: a quote's own word on its context buys nothing beyond what the configuration allows the model."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinaivu_shared.canonical import decode
from pinaivu_shared.ids import digest_of
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.terms import TOKEN_COUNT_MAX, Award, NodeReport
from pinaivu_shared.wire import link

from .market import Market, Node

ALLOWED = 4096
CREDIT = 10_000


def bounded(credit: int = 1_000_000_000) -> Market:
    """A market whose models have contexts of 4096 tokens at most."""
    models = Market().configuration.models
    return Market(
        credit=credit, models=tuple(msgspec.structs.replace(one, context_length_max=ALLOWED) for one in models)
    )


def award_of(awarded: link.Awarded) -> Award:
    return decode(awarded.award.payload, Award, check="award")


@settings(max_examples=15)
@given(st.integers(ALLOWED, TOKEN_COUNT_MAX), st.integers(0, 8 * ALLOWED - 1), st.integers(0, TOKEN_COUNT_MAX))
def test_a_longer_context_than_the_market_allows_counts_for_just_that(
    quoted: int, request_bytes: int, max_tokens: int
) -> None:
    def limits(context_length: int) -> tuple[int, int, int]:
        market = bounded()
        Node(market, "a").register().quote(context_length=context_length)
        award = award_of(market.open_job(request_bytes=request_bytes, max_tokens=max_tokens))
        return award.max_prompt_tokens, award.max_completion_tokens, award.payment_cap

    assert limits(quoted) == limits(ALLOWED)


def test_a_shorter_context_than_the_market_allows_counts_for_itself() -> None:
    market = bounded()
    Node(market, "a").register().quote(context_length=1000)
    assert award_of(market.open_job(max_tokens=0)).max_completion_tokens == 1000 - 400 // 2


def test_junk_to_a_caller_who_names_no_limit_is_paid_for_no_more_than_the_context() -> None:
    market = bounded()
    node = Node(market, "a").register().quote(context_length=TOKEN_COUNT_MAX)
    awarded = market.open_job(request_bytes=2, max_tokens=0)
    award = award_of(awarded)
    assert award.max_completion_tokens < ALLOWED
    claim = node.proof(awarded, prompt_tokens=award.max_prompt_tokens, completion_tokens=award.max_completion_tokens)
    receipt = market.settle(awarded, node, proof=claim, delivery=link.Delivery(10**8, digest_of(b"answer")))
    assert (receipt.completion_tokens, receipt.reason) == (award.max_completion_tokens, "")
    assert parse_usdc(receipt.payment_amount) == award.payment_cap < 500


def test_one_award_does_not_hold_all_of_an_accounts_credit() -> None:
    """At the list price a whole context of 4096 tokens costs about 500 micro-USDC."""
    market = bounded(credit=CREDIT)
    Node(market, "a").register().quote(context_length=TOKEN_COUNT_MAX)
    held = []
    for _ in range(3):
        assert isinstance(market.open_job(max_tokens=0), link.Awarded)
        held.append(market.balances()["hold"])
    assert held == [held[0], 2 * held[0], 3 * held[0]]
    assert held[2] < CREDIT // 5


def test_the_next_award_of_a_job_is_within_the_same_bound() -> None:
    market = bounded()
    for name, price in (("a", 10_000), ("b", 20_000)):
        Node(market, name).register().quote(price, 3 * price, context_length=TOKEN_COUNT_MAX)
    first = market.open_job(max_tokens=0)
    again = market.apply(link.ReportFailure(first.request_id, 1, "busy"))
    assert award_of(again).max_completion_tokens == award_of(first).max_completion_tokens < ALLOWED


def test_a_prompt_beyond_the_markets_bound_fits_no_node() -> None:
    market = bounded()
    Node(market, "a").register().quote(context_length=TOKEN_COUNT_MAX)
    assert market.open_job(request_bytes=8 * ALLOWED).reason == "context_length_exceeded"
    assert isinstance(market.open_job(request_bytes=8 * ALLOWED - 1), link.Awarded)


@pytest.mark.parametrize(
    ("max_tokens", "stated"),
    [(ALLOWED - 400 - 64, "false_decline"), (ALLOWED - 400 - 64 + 1, "context_length_exceeded")],
)
@pytest.mark.parametrize("attempts", [1, 2])
def test_a_decline_is_judged_by_the_context_that_counts(max_tokens: int, stated: str, attempts: int) -> None:
    """Who quotes more than the market allows is not held to it, at the first award or a later one."""
    market = bounded()
    for number in range(attempts):
        Node(market, str(number)).register().quote(context_length=TOKEN_COUNT_MAX)
    answer = market.open_job(max_tokens=max_tokens)
    for attempt in range(1, attempts + 1):
        answer = market.apply(link.ReportFailure(answer.request_id, attempt, "context_length_exceeded"))
    receipt = decode(answer.receipt, Receipt, check="receipt")
    assert {receipt.reason, *(one.reason for one in receipt.failed_attempts)} == {stated}


@pytest.mark.parametrize(("quoted", "counts"), [(TOKEN_COUNT_MAX, ALLOWED), (1000, 1000)])
def test_the_nodes_report_says_for_how_much_its_context_counts(quoted: int, counts: int) -> None:
    market = bounded()
    node = Node(market, "a").register().quote(context_length=quoted)
    reported = market.apply(link.ReadNodeReport(node.session))
    (quote,) = decode(reported.report.payload, NodeReport, check="report").quotes
    assert quote.context_length == counts
