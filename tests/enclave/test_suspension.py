"""Suspension: only what a node itself signed convicts it; it wins nothing until it ends, then begins on probation."""

import msgspec
import pytest

from pinaivu_enclave.core.commands import UnknownSubjectError
from pinaivu_shared.canonical import decode
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.leaves import SuspensionLeaf, parse_leaf
from pinaivu_shared.terms import NodeReport
from pinaivu_shared.wire import link

from .market import Market, Node

SUSPENSION_MS = 600_000


@pytest.fixture
def market() -> Market:
    """A market with few slots on probation, and quotes that outlive a suspension."""
    terms = msgspec.structs.replace(Market().configuration.nodes, probation_slots=3)
    return Market(nodes=terms, quote_lifetime_ms=86_400_000)


@pytest.fixture
def cheap(market: Market) -> Node:
    """A node that asks the least, for a whole day."""
    return Node(market, "cheap").register().quote(20_000, 60_000, expires_ms=market.now_ms + 86_400_000)


@pytest.fixture
def dear(market: Market) -> Node:
    """A node that asks more, for a whole day."""
    return Node(market, "dear").register().quote(25_000, 75_000, expires_ms=market.now_ms + 86_400_000)


def suspensions(market: Market) -> list[SuspensionLeaf]:
    return [leaf for leaf in map(parse_leaf, market.leaves) if isinstance(leaf, SuspensionLeaf)]


def offend(market: Market, node: Node) -> None:
    """Let the node win a job and claim what its award rules out."""
    awarded = market.open_job()
    assert awarded.node_id == node.node_id
    market.settle(awarded, node, proof=node.proof(awarded, completion_tokens=10**6))


def test_a_claim_that_the_award_rules_out_suspends_the_node_that_signed_it(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    proof = cheap.proof(awarded, completion_tokens=10**6)
    receipt = market.settle(awarded, cheap, proof=proof)
    (leaf,) = suspensions(market)
    assert (leaf.node_id, leaf.reason, leaf.request_id) == (cheap.node_id, "usage_absurd", awarded.request_id)
    assert leaf.evidence == (digest_of(proof.payload),) == (receipt.node_proof,)
    assert leaf.until_ms == market.now_ms + SUSPENSION_MS
    assert receipt.payment_amount == "0.000000 USDC"


def test_a_suspended_node_wins_nothing_though_its_quote_stands(market: Market, cheap: Node, dear: Node) -> None:
    offend(market, cheap)
    assert {market.open_job().node_id for _ in range(2)} == {dear.node_id}
    cheap.quote(expires_ms=market.now_ms + 86_400_000)
    market.now_ms += SUSPENSION_MS - 1
    again = market.apply(link.ReportFailure(market.open_job().request_id, 1, "busy"))
    assert isinstance(again, link.JobSettled)


def test_a_suspended_node_that_is_alone_leaves_none(market: Market, cheap: Node) -> None:
    offend(market, cheap)
    assert market.open_job().reason == "no_node"


def test_a_new_session_does_not_end_a_suspension(market: Market, cheap: Node) -> None:
    offend(market, cheap)
    Node(market, "cheap", operator="another-name").register().quote()
    assert market.open_job().reason == "no_node"


def test_a_suspension_outlives_the_enclave(market: Market, cheap: Node) -> None:
    offend(market, cheap)
    again = Market(stored=tuple(market.leaves), checkpoint=market.checkpoint)
    Node(again, "cheap").register().quote()
    assert again.open_job().reason == "no_node"


def test_after_a_suspension_the_node_is_back_on_probation(market: Market, cheap: Node) -> None:
    for _ in range(20):
        market.settle(market.open_job(), cheap)
    state = market.coordinator._state
    assert state.quality.standing(cheap.node_id, state.terms).slots == 23
    offend(market, cheap)
    market.now_ms += SUSPENSION_MS
    answers = [market.open_job() for _ in range(4)]
    assert [isinstance(one, link.Awarded) for one in answers] == [True, True, True, False]
    standing = state.quality.standing(cheap.node_id, state.terms)
    assert (standing.slots, standing.quality_bps) == (3, 7_500 // 2)


def test_each_suspension_is_twice_as_long(market: Market, cheap: Node) -> None:
    lasted = []
    for _ in range(3):
        offend(market, cheap)
        leaf = suspensions(market)[-1]
        lasted.append(leaf.until_ms - leaf.suspended_ms)
        market.now_ms = leaf.until_ms
    assert lasted == [SUSPENSION_MS, 2 * SUSPENSION_MS, 4 * SUSPENSION_MS]


def test_jobs_that_run_when_their_node_is_suspended_are_still_paid(market: Market, cheap: Node) -> None:
    running = market.open_job()
    offend(market, cheap)
    assert market.settle(running, cheap).payment_amount != "0.000000 USDC"


def test_two_proofs_of_one_job_that_differ_suspend_their_node(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    paid = market.settle(awarded, cheap)
    other = cheap.proof(awarded, completion_tokens=75)
    assert market.apply(link.ReportProof(awarded.request_id, other)) == link.Done()
    (leaf,) = suspensions(market)
    assert (leaf.reason, leaf.evidence) == ("conflicting_proofs", (paid.node_proof, digest_of(other.payload)))
    assert market.receipts() == [paid]


def test_a_conflict_convicts_once(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    market.settle(awarded, cheap)
    report = link.ReportProof(awarded.request_id, cheap.proof(awarded, reason="other"))
    market.apply(report)
    with pytest.raises(UnknownSubjectError):
        market.apply(report)
    assert len(suspensions(market)) == 1


def test_the_same_proof_again_says_nothing(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    market.settle(awarded, cheap)
    assert market.apply(link.ReportProof(awarded.request_id, cheap.proof(awarded))) == link.Done()
    assert suspensions(market) == []


def test_a_proof_that_comes_too_late_pays_nothing_and_says_nothing(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    receipt = market.settle(awarded, cheap, outcome="failed", reason="node_disconnected", proof=None)
    market.apply(link.ReportProof(awarded.request_id, cheap.proof(awarded)))
    assert market.receipts() == [receipt]
    assert (suspensions(market), receipt.payment_amount) == ([], "0.000000 USDC")


@pytest.mark.parametrize(
    "change",
    [{"award": digest_of(b"else")}, {"session": "ses_" + "0" * 32}, {"forwarded_commitment": digest_of(b"else")}],
    ids=["award", "session", "request"],
)
def test_a_proof_for_something_else_conflicts_with_nothing(market: Market, cheap: Node, change: dict[str, str]) -> None:
    awarded = market.open_job()
    market.settle(awarded, cheap)
    with pytest.raises(VerificationError, match="another award"):
        market.apply(link.ReportProof(awarded.request_id, cheap.proof(awarded, **change)))
    assert suspensions(market) == []


def test_nobody_can_make_a_conflict_for_another(market: Market, cheap: Node, dear: Node) -> None:
    awarded = market.open_job()
    market.settle(awarded, cheap)
    forged = dear.proof(awarded, node_id=cheap.node_id, public_key=cheap.public_key.hex(), session=cheap.session)
    with pytest.raises(VerificationError, match="proof signature"):
        market.apply(link.ReportProof(awarded.request_id, forged))
    assert suspensions(market) == []


def test_a_proof_of_a_job_that_is_open_is_not_reported_but_settled(market: Market, cheap: Node) -> None:
    awarded = market.open_job()
    with pytest.raises(UnknownSubjectError):
        market.apply(link.ReportProof(awarded.request_id, cheap.proof(awarded)))


def test_the_failed_node_of_a_job_proves_nothing_for_the_next_one(market: Market, cheap: Node, dear: Node) -> None:
    first = market.open_job()
    market.apply(cheap.accept(first))
    second = market.apply(link.ReportFailure(first.request_id, 1, "no_first_token"))
    receipt = market.settle(second, dear, proof=cheap.proof(first))
    assert (receipt.reason, receipt.payment_amount) == ("invalid_proof", "0.000000 USDC")


def test_a_node_is_told_of_its_suspension(market: Market, cheap: Node) -> None:
    offend(market, cheap)
    reported = market.apply(link.ReadNodeReport(cheap.session))
    report = decode(reported.report.payload, NodeReport, check="report")
    assert report.suspended_until_ms == market.now_ms + SUSPENSION_MS
    market.now_ms += SUSPENSION_MS
    reported = market.apply(link.ReadNodeReport(cheap.session))
    assert decode(reported.report.payload, NodeReport, check="report").suspended_until_ms == 0


@pytest.mark.parametrize("outcome", ["failed", "cancelled", "completed"])
@pytest.mark.parametrize("reason", ["usage_absurd", "usage_recounted", "usage_cut", "invalid_proof", "credit_limit"])
def test_the_word_of_the_host_convicts_nobody(market: Market, cheap: Node, outcome: str, reason: str) -> None:
    receipt = market.settle(market.open_job(), cheap, outcome=outcome, reason=reason)
    assert suspensions(market) == []
    assert receipt.reason == ("node_failed" if outcome == "failed" else "")


def test_a_failure_that_the_host_calls_absurd_suspends_nobody(market: Market, cheap: Node, dear: Node) -> None:
    awarded = market.open_job()
    again = market.apply(link.ReportFailure(awarded.request_id, 1, "usage_absurd"))
    market.apply(link.ReportFailure(again.request_id, 2, "usage_absurd"))
    assert suspensions(market) == []
    assert [one.reason for one in market.receipts()[-1].failed_attempts] == ["node_failed"]
    Market(stored=tuple(market.leaves), checkpoint=market.checkpoint)
