"""The phase table: every command of a job in every phase of it, and what changes hands meanwhile changes no award."""

from collections.abc import Callable
from typing import Any

import pytest

from pinaivu_enclave.core.commands import (
    AlreadySettledError,
    DuplicateRequestError,
    IllegalCommandError,
    Tick,
    UnknownSubjectError,
)
from pinaivu_enclave.core.jobs import LEGAL, SETTLED_KEPT, Jobs, Phase, ProofTerms, SettledJob
from pinaivu_shared.canonical import decode
from pinaivu_shared.errors import PinaivuError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.terms import Award
from pinaivu_shared.wire import link

from .market import ACCOUNT, Market, Node

ILLEGAL, SETTLED, UNKNOWN = IllegalCommandError, AlreadySettledError, UnknownSubjectError
DONE, AWARDED, ACCEPTED, RECEIPT = link.Done, link.Awarded, link.AwardAccepted, link.JobSettled


def awarded(market: Market, node: Node) -> link.Awarded:
    answer: link.Awarded = market.open_job()
    return answer


def running(market: Market, node: Node) -> link.Awarded:
    answer = awarded(market, node)
    market.apply(node.accept(answer))
    return answer


def streaming(market: Market, node: Node) -> link.Awarded:
    answer = running(market, node)
    market.apply(link.ReportFirstToken(answer.request_id, 1))
    return answer


def settled(market: Market, node: Node) -> link.Awarded:
    answer = streaming(market, node)
    market.apply(node.completed(answer))
    return answer


def failed(market: Market, node: Node) -> link.Awarded:
    answer = awarded(market, node)
    market.apply(link.SettleJob(answer.request_id, "failed", "busy", link.Delivery(0, ""), None))
    return answer


def forgotten(market: Market, node: Node) -> link.Awarded:
    answer = settled(market, node)
    market.coordinator._jobs.forget(market.coordinator._jobs.settled(answer.request_id))
    return answer


def accept(node: Node, job: link.Awarded) -> Any:
    return node.accept(job)


def first_token(node: Node, job: link.Awarded) -> Any:
    return link.ReportFirstToken(job.request_id, 1)


def failure(node: Node, job: link.Awarded) -> Any:
    return link.ReportFailure(job.request_id, 1, "busy")


def settle(node: Node, job: link.Awarded) -> Any:
    return node.completed(job)


def proof(node: Node, job: link.Awarded) -> Any:
    return link.ReportProof(job.request_id, node.proof(job))


def opened_again(node: Node, job: link.Awarded) -> Any:
    return link.OpenJob(
        request_id=job.request_id,
        account=ACCOUNT,
        model="pinaivu-tiny",
        request_commitment=digest_of(b"request"),
        forwarded_commitment=digest_of(b"forwarded"),
        request_bytes=400,
        max_tokens=100,
        needs=("chat",),
        may_be_empty=False,
    )


COMMANDS = (accept, first_token, failure, settle, proof, opened_again)
USED = DuplicateRequestError
TABLE = {
    awarded: (ACCEPTED, ILLEGAL, AWARDED, RECEIPT, UNKNOWN, USED),
    running: (ILLEGAL, DONE, AWARDED, RECEIPT, UNKNOWN, USED),
    streaming: (ILLEGAL, ILLEGAL, ILLEGAL, RECEIPT, UNKNOWN, USED),
    settled: (SETTLED, SETTLED, SETTLED, SETTLED, DONE, USED),
    failed: (SETTLED, SETTLED, SETTLED, SETTLED, DONE, USED),
    forgotten: (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, USED),
}
"""Phase by phase: what each command in COMMANDS is answered with."""


@pytest.mark.parametrize("phase", TABLE, ids=lambda phase: phase.__name__)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_command_in_every_phase(
    market: Market, cheap: Node, dear: Node, phase: Callable[..., Any], command: Callable[..., Any]
) -> None:
    expected = TABLE[phase][COMMANDS.index(command)]
    job = phase(market, cheap)
    before = (market.balances(), list(market.leaves))
    if issubclass(expected, PinaivuError):
        with pytest.raises(expected):
            market.apply(command(cheap, job))
        assert (market.balances(), market.leaves) == before
    else:
        assert type(market.apply(command(cheap, job))) is expected


@pytest.mark.parametrize("command", COMMANDS[:5], ids=lambda command: command.__name__)
def test_nothing_can_be_said_of_a_job_that_never_was(market: Market, cheap: Node, command: Callable[..., Any]) -> None:
    stranger = Market()
    job = awarded(stranger, Node(stranger, "cheap").register().quote())
    with pytest.raises(UnknownSubjectError):
        market.apply(command(cheap, job))


def test_every_phase_can_end_and_none_goes_back_to_a_node_that_failed() -> None:
    assert {phase for (command, phase), following in LEGAL.items() if following is None} == set(Phase)
    assert {following for (command, _), following in LEGAL.items() if command is link.ReportFailure} == {Phase.AWARDED}


def test_after_the_first_token_a_job_goes_to_no_other_node(market: Market, cheap: Node, dear: Node) -> None:
    job = streaming(market, cheap)
    with pytest.raises(IllegalCommandError, match="STREAMING"):
        market.apply(link.ReportFailure(job.request_id, 1, "node_disconnected"))
    assert market.apply(cheap.completed(job)).charge > 0


@pytest.mark.parametrize("report", [first_token, failure])
def test_a_report_of_an_earlier_award_says_nothing_of_the_next(
    market: Market, cheap: Node, dear: Node, report: Callable[..., Any]
) -> None:
    job = running(market, cheap)
    again = market.apply(link.ReportFailure(job.request_id, 1, "busy"))
    market.apply(dear.accept(again))
    with pytest.raises(DuplicateRequestError, match="award 1 is not in force"):
        market.apply(report(cheap, job))


def test_the_first_node_of_a_job_can_no_longer_accept_it(market: Market, cheap: Node, dear: Node) -> None:
    job = awarded(market, cheap)
    again = market.apply(link.ReportFailure(job.request_id, 1, "busy"))
    with pytest.raises(PinaivuError):
        market.apply(cheap.accept(job))
    assert isinstance(market.apply(dear.accept(again)), link.AwardAccepted)


def test_a_job_keeps_its_award_when_its_node_changes_its_quote(market: Market, cheap: Node, dear: Node) -> None:
    job = running(market, cheap)
    award = decode(job.award.payload, Award, check="award")
    cheap.quote(1_000, 1_000)
    market.apply(cheap.completed(job))
    receipt = market.receipts()[-1]
    assert (receipt.auction.input_price, receipt.auction.output_price) == (award.input_price, award.output_price)


@pytest.mark.parametrize("goes", ["withdraws", "leaves", "comes back"])
def test_a_job_keeps_its_award_when_its_node_goes(market: Market, cheap: Node, goes: str) -> None:
    job = running(market, cheap)
    session = cheap.session
    if goes == "withdraws":
        market.apply(link.WithdrawQuotes(session, ""))
    if goes == "leaves":
        market.apply(link.EndSession(session))
    if goes == "comes back":
        Node(market, "cheap").register()
    assert market.open_job().reason == "no_node"
    assert market.apply(cheap.completed(job)).charge > 0


def test_the_newer_of_two_sessions_wins_the_jobs_and_the_older_one_proves_its_own(market: Market) -> None:
    older = Node(market, "a").register().quote()
    first = running(market, older)
    newer = Node(market, "a").register().quote()
    second = running(market, newer)
    assert (first.session, second.session) == (older.session, newer.session)
    crossed = newer.proof(first)
    assert market.apply(older.completed(first)).charge > 0
    receipt = market.apply(newer.completed(second, proof=newer.proof(second, session=older.session)))
    assert receipt.charge == 0
    with pytest.raises(PinaivuError, match="another award, node, session"):
        market.apply(link.ReportProof(first.request_id, crossed))


def test_slots_and_holds_are_free_after_every_end(market: Market, cheap: Node) -> None:
    for phase in (settled, failed, forgotten):
        phase(market, cheap)
    streaming(market, cheap)
    market.now_ms += 10**6
    market.apply(Tick())
    assert market.coordinator._book.running(cheap.node_id, "pinaivu-tiny") == 0
    assert "hold" not in market.balances()


def test_settled_jobs_are_remembered_for_a_bounded_while() -> None:
    jobs = Jobs()
    terms = dict.fromkeys(ProofTerms.__struct_fields__, "")
    for number in range(SETTLED_KEPT + 2):
        jobs.remember(SettledJob(number, ProofTerms(**{**terms, "request_id": str(number)}), ""))
    for gone in ("0", "1"):
        with pytest.raises(UnknownSubjectError):
            jobs.settled(gone)
    assert jobs.settled("2").index == 2
