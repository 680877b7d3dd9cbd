"""Jobs from award to receipt: phases, failover, metering and payment (DESIGN sections 3 and 4)."""

import msgspec
import pytest

from pinaivu_enclave.core.commands import (
    AlreadySettledError,
    DuplicateRequestError,
    IllegalCommandError,
    MarketFullError,
    Tick,
)
from pinaivu_enclave.core.jobs import SETTLEMENT_GRACE_MS
from pinaivu_shared.canonical import decode
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.receipt import Receipt, verify_receipt
from pinaivu_shared.wire import link, link_boot

from .market import Market, Node

NOTHING = link.Delivery(0, "")


def receipt_of(answer: link.JobSettled) -> Receipt:
    return decode(answer.receipt, Receipt, check="receipt")


def test_a_completed_job_is_paid_by_its_tokens_at_the_clearing_prices(market: Market, cheap: Node, dear: Node) -> None:
    receipt = market.settle(market.open_job(), cheap)
    assert (receipt.outcome, receipt.reason) == ("completed", "")
    assert (receipt.prompt_tokens, receipt.completion_tokens) == (38, 74)
    assert parse_usdc(receipt.payment_amount) == -(-(25_000 * 38 + 75_000 * 74) // 1_000_000)


def test_the_receipt_is_signed_and_is_its_own_leaf(market: Market, cheap: Node) -> None:
    receipt = market.settle(market.open_job(), cheap)
    key = market.manifest.receipt_public_key()
    assert verify_receipt(market.leaves[receipt.log.index], key) == receipt


def test_the_customer_owes_the_payment_and_the_fee(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    market.apply(cheap.accept(awarded))
    settled = market.apply(cheap.completed(awarded))
    payment = parse_usdc(receipt_of(settled).payment_amount)
    assert settled.charge == payment + -(-payment * 500 // 10_000)


def test_the_ledger_sums_to_zero(market: Market, cheap: Node, dear: Node) -> None:
    for _ in range(5):
        market.settle(market.open_job(), cheap)
    balances = market.coordinator._state.ledger.balances()
    assert sum(balances.values()) == 0
    assert balances[f"node:{cheap.node_id}"] == sum(parse_usdc(one.payment_amount) for one in market.receipts())


@pytest.mark.parametrize(
    ("proof", "delivered_bytes", "expected"),
    [
        ({"completion_tokens": 108}, 5000, ("usage_cut", 38, 100)),
        ({"completion_tokens": 109}, 5000, ("usage_absurd", 0, 0)),
        ({"completion_tokens": 90}, 20, ("usage_cut", 38, 28)),
        ({"prompt_tokens": 464}, 300, ("", 464, 74)),
        ({"prompt_tokens": 465}, 300, ("prompt_cut", 464, 74)),
        ({"prompt_tokens": 8 * 464 + 1}, 300, ("usage_absurd", 0, 0)),
        ({"completion_tokens": 0}, 300, ("usage_missing", 0, 0)),
        ({"prompt_tokens": 0}, 300, ("usage_missing", 0, 0)),
    ],
    ids=[
        *(
            "above max_tokens",
            "far above",
            "above what was delivered",
            "dense prompt",
            "above the request",
            "no prompt has so many",
        ),
        *("no completion", "no prompt"),
    ],
)
def test_metering_is_bounded_by_award_and_delivery(
    market: Market, cheap: Node, proof: dict[str, int], delivered_bytes: int, expected: tuple[str, int, int]
) -> None:
    awarded = market.open_job()
    delivery = link.Delivery(delivered_bytes, digest_of(b"answer"))
    receipt = market.settle(awarded, cheap, proof=cheap.proof(awarded, **proof), delivery=delivery)
    assert (receipt.reason, receipt.prompt_tokens, receipt.completion_tokens) == expected


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"award": "sha256:" + "0" * 64}, "invalid_proof"),
        ({"session": "ses_" + "0" * 32}, "invalid_proof"),
        ({"request_id": "req_01m7q5cqg04s5atv5pvmggzb6k"}, "invalid_proof"),
        ({"forwarded_commitment": "sha256:" + "0" * 64}, "invalid_proof"),
        ({"response_commitment": "sha256:" + "0" * 64}, "response_mismatch"),
        ({"outcome": "failed"}, "node_failed"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_a_proof_that_does_not_fit_pays_nothing(
    market: Market, cheap: Node, change: dict[str, str], reason: str
) -> None:
    awarded = market.open_job()
    receipt = market.settle(awarded, cheap, proof=cheap.proof(awarded, **change))
    assert (receipt.outcome, receipt.reason, receipt.payment_amount) == ("failed", reason, "0.000000 USDC")


def test_a_proof_by_another_node_pays_nothing(market: Market, cheap: Node, dear: Node) -> None:
    awarded = market.open_job()
    receipt = market.settle(awarded, cheap, proof=dear.proof(awarded))
    assert (receipt.reason, receipt.node_proof, receipt.payment_amount) == ("invalid_proof", "", "0.000000 USDC")


def test_a_job_that_was_never_accepted_is_not_paid(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    receipt = receipt_of(market.apply(cheap.completed(awarded)))
    assert (receipt.outcome, receipt.reason, receipt.payment_amount) == ("failed", "not_accepted", "0.000000 USDC")


def test_a_cancelled_job_pays_what_was_delivered(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    delivery = link.Delivery(10, digest_of(b"partial"))
    receipt = market.settle(awarded, cheap, outcome="cancelled", delivery=delivery)
    assert (receipt.outcome, receipt.completion_tokens) == ("cancelled", 18)


def test_a_job_cancelled_before_anything_was_delivered_pays_nothing(market: Market, cheap: Node) -> None:
    receipt = market.settle(market.open_job(), cheap, outcome="cancelled", delivery=NOTHING)
    assert (receipt.reason, receipt.payment_amount) == ("nothing_delivered", "0.000000 USDC")


def test_a_failed_job_owes_nothing_and_has_a_receipt(market: Market, cheap: Node) -> None:
    receipt = market.settle(market.open_job(), cheap, outcome="failed", reason="node_disconnected", proof=None)
    assert (receipt.outcome, receipt.reason) == ("failed", "node_disconnected")
    assert (receipt.prompt_tokens, receipt.completion_tokens, receipt.payment_amount) == (0, 0, "0.000000 USDC")


def test_the_next_node_gets_a_job_whose_node_failed(market: Market, cheap: Node, dear: Node) -> None:
    awarded = market.open_job()
    again = market.apply(link.ReportFailure(awarded.request_id, 1, "node_disconnected"))
    assert (again.node_id, again.attempt) == (dear.node_id, 2)
    receipt = market.settle(again, dear)
    assert (receipt.node_id, receipt.auction.bids) == (dear.node_id, 1)


def test_a_failure_frees_the_failed_nodes_slot(market: Market, cheap: Node, dear: Node) -> None:
    awarded = market.open_job()
    market.apply(link.ReportFailure(awarded.request_id, 1, "node_disconnected"))
    assert market.coordinator._book.running(cheap.node_id, awarded_model()) == 0
    assert market.coordinator._book.running(dear.node_id, awarded_model()) == 1


def awarded_model() -> str:
    return "pinaivu-tiny"


def test_when_no_node_is_left_the_job_ends_failed_with_the_last_reason(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    receipt = receipt_of(market.apply(link.ReportFailure(awarded.request_id, 1, "no_first_token")))
    assert (receipt.outcome, receipt.reason, receipt.node_id) == ("failed", "no_first_token", cheap.node_id)


def test_there_are_at_most_three_awards(market: Market) -> None:
    for name in "abcd":
        Node(market, name).register().quote()
    answer = market.open_job()
    for attempt in (1, 2):
        answer = market.apply(link.ReportFailure(answer.request_id, attempt, "busy"))
        assert isinstance(answer, link.Awarded)
    assert isinstance(market.apply(link.ReportFailure(answer.request_id, 3, "busy")), link.JobSettled)


def test_a_report_about_an_award_not_in_force_is_refused(market: Market, cheap: Node, dear: Node) -> None:
    awarded = market.open_job()
    market.apply(link.ReportFailure(awarded.request_id, 1, "busy"))
    with pytest.raises(DuplicateRequestError):
        market.apply(link.ReportFailure(awarded.request_id, 1, "busy"))


def test_an_acceptance_counts_once(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    market.apply(cheap.accept(awarded))
    with pytest.raises(IllegalCommandError):
        market.apply(cheap.accept(awarded))


@pytest.mark.parametrize("change", [{"award": "sha256:" + "0" * 64}, {"session": "ses_" + "0" * 32}])
def test_an_acceptance_of_other_terms_is_refused(market: Market, cheap: Node, change: dict[str, str]) -> None:
    awarded = market.open_job()
    with pytest.raises(VerificationError, match="acceptance"):
        market.apply(cheap.accept(awarded, **change))
    market.apply(cheap.accept(awarded))


def test_a_settled_job_cannot_be_settled_again(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    market.settle(awarded, cheap)
    with pytest.raises(AlreadySettledError):
        market.apply(cheap.completed(awarded))


def test_a_request_id_is_good_for_one_job(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    for _ in range(2):
        with pytest.raises(DuplicateRequestError):
            market.open_job(request_id=awarded.request_id)
        if market.coordinator._jobs.all():
            market.settle(awarded, cheap)


def test_a_request_id_of_another_time_is_refused(market: Market, cheap: Node) -> None:
    stale = market.request_id()
    market.now_ms += 301_000
    cheap.quote()
    with pytest.raises(DuplicateRequestError):
        market.open_job(request_id=stale)


def test_open_jobs_are_bounded(market: Market) -> None:
    small = Market(max_open_jobs=2)
    Node(small, "a").register().quote()
    small.open_job()
    small.open_job()
    with pytest.raises(MarketFullError):
        small.open_job()


def test_a_job_nobody_settles_ends_after_its_deadline(market: Market, cheap: Node) -> None:
    market.open_job()
    market.now_ms += 600_000 + SETTLEMENT_GRACE_MS + 1
    market.apply(Tick())
    assert [(one.outcome, one.reason) for one in market.receipts()] == [("failed", "deadline")]


def test_a_new_host_ends_the_jobs_and_sessions_of_the_old_one(market: Market, cheap: Node) -> None:
    market.open_job()
    market.apply(link_boot.Introduce("1" * 32, link.LINK_PROTOCOL))
    assert [one.reason for one in market.receipts()] == ["host_restarted"]
    assert market.open_job().reason == "no_node"


def test_the_same_host_coming_back_finds_its_jobs(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    introduction = market.apply(link_boot.Introduce("0" * 32, link.LINK_PROTOCOL))
    assert introduction.phase == "serving"
    assert market.settle(awarded, cheap).outcome == "completed"


def test_leaves_that_were_not_acknowledged_are_pushed_again(market: Market, cheap: Node) -> None:
    market.acknowledge()
    market.settle(market.open_job(), cheap)
    effects = market.coordinator.apply(link_boot.Introduce("0" * 32, link.LINK_PROTOCOL), market.now_ms)
    assert effects[0] == link.LeafAppended(len(market.leaves) - 1, market.leaves[-1])


def test_more_leaves_than_there_are_cannot_be_acknowledged(market: Market) -> None:
    with pytest.raises(IllegalCommandError):
        market.apply(link.AcknowledgeLeaves(len(market.leaves) + 1))


def test_an_award_without_a_limit_leaves_room_for_the_prompt(market: Market, cheap: Node) -> None:
    awarded = market.open_job(max_tokens=0)
    receipt = market.settle(
        awarded,
        cheap,
        proof=cheap.proof(awarded, completion_tokens=2048 - 400 // 2 + 8),
        delivery=link.Delivery(10**6, digest_of(b"answer")),
    )
    assert receipt.completion_tokens == 2048 - 400 // 2


def test_money_on_the_receipt_never_exceeds_the_awards_cap(market: Market, cheap: Node, dear: Node) -> None:
    awarded = market.open_job()
    greedy = cheap.proof(awarded, prompt_tokens=464, completion_tokens=108)
    receipt = market.settle(awarded, cheap, proof=greedy, delivery=link.Delivery(2**40, digest_of(b"answer")))
    award = msgspec.json.decode(awarded.award.payload)
    assert parse_usdc(receipt.payment_amount) == award["payment_cap"]


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_a_host_cannot_have_a_node_suspended_by_naming_a_reason(market: Market, cheap: Node, outcome: str) -> None:
    receipt = market.settle(market.open_job(), cheap, outcome=outcome, reason="usage_absurd", delivery=NOTHING)
    assert market.receipts()[-1] == receipt
    assert isinstance(market.open_job(), link.Awarded)


def test_the_reason_of_a_completed_job_is_the_enclaves(market: Market, cheap: Node) -> None:
    assert market.settle(market.open_job(), cheap, reason="usage_recounted").reason == ""
