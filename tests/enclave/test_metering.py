"""Metering: what a node claims, cut to what award, delivery and recount allow, and what each cut is called."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_enclave.core.jobs import ProofTerms
from pinaivu_enclave.core.metering import Metered, read_proof
from pinaivu_shared.canonical import decode
from pinaivu_shared.configuration import MeteringLimits
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.signed import Signed
from pinaivu_shared.terms import Award, Proof
from pinaivu_shared.wire import link

from .market import Market, Node

ANSWER = digest_of(b"answer")
LIMITS = MeteringLimits(completion_allowance=8, template_allowance=64, recount_tolerance_bps=500)


def quality_of(market: Market, node: Node) -> int:
    return market.coordinator._state.quality.standing(node.node_id, market.configuration.nodes).quality_bps


def settled(market: Market, node: Node, *, proof: dict[str, Any], delivery: link.Delivery, **changes: Any) -> Receipt:
    awarded = market.open_job()
    return market.settle(awarded, node, proof=node.proof(awarded, **proof), delivery=delivery, **changes)


@pytest.mark.parametrize(
    ("claimed", "recounted", "paid", "reason"),
    [
        (74, None, 74, ""),
        (74, 74, 74, ""),
        (74, 80, 74, ""),
        (74, 73, 73, ""),
        (74, 63, 63, ""),
        (74, 62, 62, "usage_recounted"),
        (74, 1, 1, "usage_recounted"),
        (74, 0, 0, "usage_recounted"),
        (8, 0, 0, "nothing_delivered"),
        (100, 88, 88, ""),
        (100, 87, 87, "usage_recounted"),
    ],
)
def test_the_lower_of_claim_and_recount_is_paid(claimed: int, recounted: int | None, paid: int, reason: str) -> None:
    """Within the tolerance a difference is nobody's fault, but never in the node's favour."""
    market = Market()
    cheap, delivery = Node(market, "a").register().quote(), link.Delivery(300, ANSWER, recounted)
    receipt = settled(market, cheap, proof={"completion_tokens": claimed}, delivery=delivery)
    assert (receipt.completion_tokens, receipt.reason) == (paid, reason)


@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
@pytest.mark.parametrize("outcome", ["completed", "cancelled"])
def test_usage_that_is_missing_is_paid_as_zero_and_not_estimated(
    market: Market, cheap: Node, outcome: str, field: str
) -> None:
    delivery = link.Delivery(300, ANSWER)
    receipt = settled(market, cheap, proof={field: 0}, delivery=delivery, outcome=outcome)
    assert (receipt.prompt_tokens, receipt.completion_tokens, receipt.reason) == (0, 0, "usage_missing")
    assert receipt.charge_amount == "0.000000 USDC"


def declined(market: Market, *, context_length: int) -> Receipt:
    """A prompt of 400 bytes and an answer of 100 tokens, declined as too long."""
    Node(market, "a").register().quote(context_length=context_length)
    answer = market.apply(link.ReportFailure(market.open_job().request_id, 1, "context_length_exceeded"))
    return decode(answer.receipt, Receipt, check="receipt")


def test_a_job_that_fits_for_sure_cannot_be_declined_as_too_long(market: Market) -> None:
    assert declined(market, context_length=400 + 64 + 100).reason == "false_decline"


def test_a_job_that_may_be_too_long_may_be_declined(market: Market) -> None:
    assert declined(market, context_length=400 + 64 + 100 - 1).reason == "context_length_exceeded"


@pytest.mark.parametrize("answered", [True, False])
def test_what_another_node_did_was_not_impossible(market: Market, cheap: Node, dear: Node, *, answered: bool) -> None:
    before, awarded = quality_of(market, cheap), market.open_job()
    again = market.apply(link.ReportFailure(awarded.request_id, 1, "unsupported_request"))
    if answered:
        market.settle(again, dear)
    else:
        market.apply(link.ReportFailure(awarded.request_id, 2, "unsupported_request"))
    assert (quality_of(market, cheap) < before) == answered


@pytest.mark.parametrize(
    ("claimed", "paid", "reason"), [(464, 464, ""), (465, 464, "prompt_cut"), (3_712, 464, "prompt_cut")]
)
def test_a_prompt_is_paid_up_to_its_bytes_and_the_template(
    market: Market, cheap: Node, claimed: int, paid: int, reason: str
) -> None:
    receipt = settled(market, cheap, proof={"prompt_tokens": claimed}, delivery=link.Delivery(300, ANSWER))
    assert (receipt.prompt_tokens, receipt.completion_tokens, receipt.reason) == (paid, 74, reason)


def test_what_an_account_could_not_hold_is_cut_and_not_the_nodes_fault() -> None:
    market = Market(credit=14)
    node = Node(market, "a").register().quote()
    receipt = settled(market, node, proof={"prompt_tokens": 400}, delivery=link.Delivery(300, ANSWER))
    assert receipt.reason == "credit_limit"
    assert receipt.prompt_tokens < 400
    state = market.coordinator._state
    assert state.quality.standing(node.node_id, state.terms).quality_bps > 7_500


@pytest.mark.parametrize(
    ("proof", "absurd"),
    [
        ({"prompt_tokens": 3_712}, False),
        ({"prompt_tokens": 3_713}, True),
        ({"completion_tokens": 108}, False),
        ({"completion_tokens": 109}, True),
    ],
    ids=lambda value: str(next(iter(value.items()))) if isinstance(value, dict) else str(value),
)
@pytest.mark.parametrize("outcome", ["completed", "cancelled"])
def test_what_the_award_rules_out_is_absurd_and_pays_nothing_at_all(
    market: Market,
    cheap: Node,
    outcome: str,
    proof: dict[str, int],
    absurd: bool,  # noqa: FBT001 - a table
) -> None:
    receipt = settled(market, cheap, proof=proof, delivery=link.Delivery(2**40, ANSWER), outcome=outcome)
    assert (receipt.reason == "usage_absurd") == absurd
    assert (receipt.payment_amount == "0.000000 USDC") == absurd


def test_a_claim_is_absurd_whatever_the_host_says_was_delivered(market: Market, cheap: Node) -> None:
    receipt = settled(
        market, cheap, proof={"completion_tokens": 10**6}, delivery=link.Delivery(0, ""), outcome="cancelled"
    )
    assert receipt.reason == "usage_absurd"


@given(st.binary(max_size=400), st.binary(min_size=64, max_size=64))
def test_whatever_comes_as_a_proof_is_one_or_refused(payload: bytes, signature: bytes) -> None:
    market = Market()
    node = Node(market, "a")
    terms = ProofTerms(
        request_id="req_" + "0" * 26,
        node_id=node.node_id,
        session="ses_" + "0" * 32,
        public_key=node.public_key.hex(),
        award=ANSWER,
        forwarded_commitment=ANSWER,
    )
    with pytest.raises(VerificationError):
        read_proof(Signed(payload, signature), terms)


def test_a_proof_with_a_field_too_many_pays_nothing(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    honest = cheap.proof(awarded)
    payload = honest.payload[:-1] + b',"zz":1}'
    signed = Signed(payload, cheap.key.sign(b"pinaivu/proof/v1\0" + payload))
    receipt = market.settle(awarded, cheap, proof=signed)
    assert (receipt.reason, receipt.node_proof) == ("invalid_proof", "")


def test_a_signature_of_another_kind_is_no_proof(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    payload = cheap.proof(awarded).payload
    signed = Signed(payload, cheap.key.sign(b"pinaivu/acceptance/v1\0" + payload))
    assert decode(payload, Proof, check="proof").completion_tokens == 74
    assert market.settle(awarded, cheap, proof=signed).reason == "invalid_proof"


def test_a_failure_owes_nothing_even_with_a_good_proof(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    receipt = market.settle(awarded, cheap, outcome="failed", reason="made_up")
    assert (receipt.payment_amount, receipt.reason) == ("0.000000 USDC", "made_up")
    assert receipt.node_proof, "the receipt still names the proof that came"
    assert Metered("failed", "made_up").completion_tokens == 0


@pytest.mark.parametrize(("left_out", "reason"), [(0, "credit_limit"), (1, "")])
def test_an_answer_as_long_as_credit_allows_says_so(left_out: int, reason: str) -> None:
    market = Market(credit=14)
    node = Node(market, "a").register().quote()
    awarded = market.open_job(max_tokens=0)
    award = decode(awarded.award.payload, Award, check="award")
    claim = {"prompt_tokens": 1, "completion_tokens": award.max_completion_tokens - left_out}
    receipt = market.settle(awarded, node, proof=node.proof(awarded, **claim))
    assert (receipt.outcome, receipt.reason) == ("completed", reason)


@pytest.mark.parametrize(
    ("recounted", "paid", "reason"), [(None, 300, ""), (236, 300, ""), (235, 299, "prompt_cut"), (0, 64, "prompt_cut")]
)
def test_a_prompt_that_was_counted_again_has_no_more_tokens_than_that_and_the_templates(
    market: Market, cheap: Node, recounted: int | None, paid: int, reason: str
) -> None:
    delivery = link.Delivery(300, ANSWER, None, recounted)
    receipt = settled(market, cheap, proof={"prompt_tokens": 300}, delivery=delivery)
    assert (receipt.prompt_tokens, receipt.reason) == (paid, reason)


@pytest.mark.parametrize(("prompt_tokens", "stated"), [(100, "false_decline"), (401, "context_length_exceeded")])
def test_an_answer_shows_whether_the_context_of_a_declined_node_would_have_done(
    market: Market, cheap: Node, dear: Node, prompt_tokens: int, stated: str
) -> None:
    """Of 400 bytes nobody knows the tokens before somebody has answered: 500 may or may not be enough."""
    cheap.quote(context_length=500)
    again = market.apply(link.ReportFailure(market.open_job().request_id, 1, "context_length_exceeded"))
    receipt = market.settle(again, dear, proof=dear.proof(again, prompt_tokens=prompt_tokens))
    assert [one.reason for one in receipt.failed_attempts] == [stated]
