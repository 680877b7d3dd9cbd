"""Jobs for embeddings: awarded, metered, paid and judged by their prompt alone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_enclave.core.limits import Prices, TokenLimits, estimated_prompt_tokens, full_limits, limits_within
from pinaivu_enclave.core.quality_book import Standing
from pinaivu_shared.canonical import decode
from pinaivu_shared.ids import digest_of
from pinaivu_shared.money import charge_on, parse_usdc
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.second_score import verify_transcript
from pinaivu_shared.terms import Award
from pinaivu_shared.wire import link

from .market import ACCOUNT, MODEL, Market, Node
from .replayer import replay

ANSWER = digest_of(b"answer")
BYTES = 400
ALLOWED = BYTES + 64
"""Prompt tokens: the template's allowance is 64."""


@pytest.fixture
def embedder(market: Market) -> Node:
    """A node that also chats."""
    return Node(market, "embedder").register().quote(capabilities=("chat", "embeddings"))


def ask(market: Market, **changes: Any) -> Any:
    return market.open_job(needs=("embeddings",), max_tokens=0, **changes)


def award_of(awarded: link.Awarded) -> Award:
    return decode(awarded.award.payload, Award, check="award")


def settled(market: Market, node: Node, *, delivery: link.Delivery | None = None, **claim: Any) -> Receipt:
    """The receipt of a job whose node claims 100 prompt tokens, and 4,096 bytes of whose answer were delivered."""
    awarded = ask(market)
    changes = {name: claim.pop(name) for name in ("outcome", "reason") if name in claim}
    claim = {"prompt_tokens": 100, "completion_tokens": 0} | claim
    proof = node.proof(awarded, **claim, outcome=changes.get("outcome", "completed"))
    return market.settle(awarded, node, proof=proof, delivery=delivery or link.Delivery(4_096, ANSWER), **changes)


def standing(market: Market, node: Node) -> Standing:
    state = market.coordinator._state
    return state.quality.standing(node.node_id, state.terms)


@pytest.mark.parametrize("max_tokens", [0, 100])
def test_an_award_for_embeddings_has_no_completion_tokens(market: Market, embedder: Node, max_tokens: int) -> None:
    awarded = market.open_job(needs=("embeddings",), max_tokens=max_tokens)
    award, transcript = award_of(awarded), verify_transcript(awarded.transcript)
    assert (award.max_prompt_tokens, award.max_completion_tokens) == (ALLOWED, 0)
    assert (transcript.prompt_tokens, transcript.completion_tokens) == (100, 0)
    assert award.payment_cap == Prices(award.input_price, award.output_price).cap(TokenLimits(ALLOWED, 0))
    assert market.balances()["hold"] == charge_on(award.payment_cap, market.configuration.fee_bps)


def test_a_batch_may_be_longer_than_a_context_which_each_of_its_inputs_has_to_itself(
    market: Market, embedder: Node
) -> None:
    assert market.open_job(request_bytes=100_000).reason == "context_length_exceeded"
    assert award_of(ask(market, request_bytes=100_000)).max_prompt_tokens == 100_064


@pytest.mark.parametrize(
    ("claim", "paid", "reason"),
    [
        ({}, 100, ""),
        ({"prompt_tokens": ALLOWED}, ALLOWED, ""),
        ({"prompt_tokens": ALLOWED + 1}, ALLOWED, "prompt_cut"),
        ({"prompt_tokens": 0}, 0, "usage_missing"),
        ({"completion_tokens": 8}, 100, "usage_cut"),
        ({"completion_tokens": 9}, 0, "usage_absurd"),
        ({"prompt_tokens": 8 * ALLOWED + 1}, 0, "usage_absurd"),
    ],
    ids=str,
)
def test_the_prompt_of_an_answer_is_paid_and_nothing_else(
    market: Market, embedder: Node, claim: dict[str, Any], paid: int, reason: str
) -> None:
    receipt = settled(market, embedder, **claim)
    assert (receipt.prompt_tokens, receipt.completion_tokens, receipt.reason) == (paid, 0, reason)
    assert (parse_usdc(receipt.payment_amount) > 0) == (paid > 0)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"delivery": link.Delivery(0, ANSWER)}, "empty_answer"),
        ({"delivery": link.Delivery(0, ""), "outcome": "cancelled"}, "nothing_delivered"),
        ({"outcome": "cancelled"}, "nothing_delivered"),
        ({"outcome": "cancelled", "reason": "client_disconnected"}, "client_disconnected"),
        ({"outcome": "failed"}, "node_failed"),
        ({"response_commitment": digest_of(b"another")}, "response_mismatch"),
    ],
    ids=str,
)
def test_nobody_is_paid_the_prompt_for_no_answer_nor_for_a_part_of_one(
    market: Market, embedder: Node, said: dict[str, Any], reason: str
) -> None:
    receipt = settled(market, embedder, **said)
    assert (receipt.prompt_tokens, receipt.payment_amount, receipt.reason) == (0, "0.000000 USDC", reason)


def test_a_job_of_another_kind_is_not_paid_for_its_prompt_alone(market: Market, embedder: Node) -> None:
    awarded = market.open_job(max_tokens=1)
    proof = embedder.proof(awarded, completion_tokens=0)
    assert market.settle(awarded, embedder, proof=proof).reason == "usage_missing"


def test_embeddings_leave_what_a_model_is_expected_to_answer_alone(market: Market, embedder: Node) -> None:
    market.settle(market.open_job(), embedder)
    for _ in range(20):
        settled(market, embedder)
    assert verify_transcript(market.open_job(max_tokens=0).transcript).completion_tokens == 74


def test_an_answer_of_embeddings_is_good_work_and_timed_among_its_like() -> None:
    """A chat's first token comes sooner: beside it, embeddings would be late."""
    market = Market()
    node = (
        Node(market, "a")
        .register()
        .quote(capabilities=("chat", "embeddings"), expires_ms=market.now_ms + market.configuration.quote_lifetime_ms)
    )
    for _ in range(9):
        market.settle(market.open_job(), node)
    for duration_ms in (900, 900, 2_000):
        awarded = ask(market)
        proof = node.proof(awarded, prompt_tokens=100, completion_tokens=0)
        market.apply(node.accept(awarded))
        market.now_ms += duration_ms
        market.apply(node.completed(awarded, proof=proof))
    assert [one.sample_bps for one in standing(market, node).changes[-3:]] == [10_000, 10_000, 8_952]
    assert market.receipts()[-1].timing.first_token_ms == 2_000
    replayed = replay(market.leaves, {}).standings[node.node_id]
    assert (replayed.quality, replayed.slots) == (standing(market, node).quality_bps, standing(market, node).slots)


def test_a_decline_of_what_another_node_embedded_counts(market: Market, embedder: Node) -> None:
    other = Node(market, "dear").register().quote(25_000, 75_000, capabilities=("embeddings",))
    again = market.apply(link.ReportFailure(ask(market).request_id, 1, "unsupported_request"))
    market.settle(again, other, proof=other.proof(again, completion_tokens=0))
    assert standing(market, embedder).quality_bps == 7_250


def test_an_answer_shows_that_a_declined_context_was_long_enough(market: Market, embedder: Node) -> None:
    embedder.quote(capabilities=("embeddings",), context_length=450)
    other = Node(market, "dear").register().quote(25_000, 75_000, capabilities=("embeddings",))
    again = market.apply(link.ReportFailure(ask(market).request_id, 1, "context_length_exceeded"))
    receipt = market.settle(again, other, proof=other.proof(again, prompt_tokens=100, completion_tokens=0))
    assert [one.reason for one in receipt.failed_attempts] == ["false_decline"]


def test_credit_for_the_prompt_is_enough() -> None:
    """At 20,000 for a million tokens, 100 cost 2 micro-USDC and 464 cost 10."""
    for credit, allowed in ((3, 100), (2, None)):
        market = Market(credit=credit)
        Node(market, "a").register().quote(capabilities=("embeddings",))
        Node(market, "b").register().quote(capabilities=("embeddings",))
        answer = ask(market)
        if allowed is None:
            assert answer.reason == "insufficient_credit"
        else:
            assert award_of(answer).max_prompt_tokens == allowed


@given(
    st.builds(Prices, st.integers(1, 2**40), st.integers(1, 2**40)),
    st.integers(0, 2**31),
    st.integers(1, 2**31),
    st.integers(0, 65_536),
    st.integers(0, 10**9),
)
def test_limits_of_embeddings_are_the_largest_prompt_that_is_paid_for(
    prices: Prices, request_bytes: int, context_length: int, template_allowance: int, cap: int
) -> None:
    asked = link.OpenJob(
        request_id="req_" + "0" * 26,
        account=ACCOUNT,
        model=MODEL,
        request_commitment=ANSWER,
        forwarded_commitment=ANSWER,
        request_bytes=request_bytes,
        max_tokens=0,
        needs=("embeddings",),
        may_be_empty=False,
    )
    full = full_limits(asked, context_length=context_length, template_allowance=template_allowance)
    assert full == TokenLimits(min(request_bytes + template_allowance, 2**31), 0)
    found = limits_within(full, asked, prices, cap, expected=0)
    if found is None:
        assert prices.cap(TokenLimits(min(full.prompt, estimated_prompt_tokens(asked)), 0)) > cap
        return
    assert (found.completion, found.shortened) == (0, False)
    assert prices.cap(found) <= cap
    assert found.prompt == full.prompt or prices.cap(TokenLimits(found.prompt + 1, 0)) > cap
