"""A host that lies to the enclave, with the real programs: what the receipt says, who is paid, what the node can show.

The lying link stands between the real host and the real enclave. The node that wins is honest, and tells what it was
awarded and what it signed: with that and the log it can show what a lie made of its work. A host can always cost a
node its pay, for it is trusted with availability; it cannot make anybody be paid more, nor a customer owe more.
"""

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest

from pinaivu_shared.bundle import parse_bundle, verify_bundle
from pinaivu_shared.canonical import decode
from pinaivu_shared.commitments import request_commitment, response_commitment
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.leaves import EpochLeaf
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.signed import Signed, load_node_key, verify_enclave, verify_node
from pinaivu_shared.terms import Acceptance, Award, Proof, QuoteAcknowledgement
from pinaivu_shared.trust import parse_trust
from pinaivu_simulator.lies.jobs import OTHER
from pinaivu_simulator.lies.table import LIES

from .place import Place, market
from .programs import Dishonest, cheating, lying
from .test_cheating_nodes import ALLOWANCE, HONEST_TOKENS, check_payment

PAID: Final = (HONEST_TOKENS, HONEST_TOKENS)
NOTHING: Final = (0, 0)


class Verdict(msgspec.Struct, frozen=True):
    """What the caller gets, what the receipt says, how many tokens the honest node is paid for."""

    status: int
    outcome: str
    reason: str
    paid: tuple[int, int]


VERDICTS: Final[dict[str, Verdict]] = {
    "none": Verdict(200, "completed", "", PAID),
    "duplicate": Verdict(200, "completed", "", PAID),
    "delay": Verdict(200, "completed", "", PAID),
    "reorder": Verdict(502, "failed", "not_accepted", NOTHING),
    "request-changed": Verdict(200, "completed", "", PAID),
    "response-changed": Verdict(502, "failed", "response_mismatch", NOTHING),
    "delivery-more": Verdict(200, "completed", "", PAID),
    "delivery-less": Verdict(200, "completed", "usage_cut", (HONEST_TOKENS, 1 + ALLOWANCE)),
    "recount-false": Verdict(200, "completed", "usage_recounted", (HONEST_TOKENS, 1)),
    "delivery-invented": Verdict(502, "failed", "not_accepted", NOTHING),
    "failure-wrong": Verdict(502, "failed", "node_failed", NOTHING),
    "proof-withheld": Verdict(502, "failed", "no_proof", NOTHING),
    "proof-twice": Verdict(200, "completed", "", PAID),
    "settled-twice": Verdict(200, "completed", "", PAID),
    "jobs-unasked": Verdict(200, "completed", "", PAID),
}
REFUSED: Final = {"acceptance_refused", "not_accepted"}
"""An acceptance that does not hold: which of the two depends on whether the answer was whole before that was known."""
OF_THE_SECOND_JOB: Final = {"proof-replayed": {"invalid_proof"}, "acceptance-of-another": REFUSED}
"""Lies that need an honest job first, and what the receipt of the next one says."""
OF_THEIR_OWN: Final = {"drop", "forwarded-changed", "failure-before-acceptance"}


class Town:
    """The market, its link, and the honest node that wins."""

    def __init__(self, place: Place, sockets: Path, winner: Dishonest, folder: Path) -> None:
        self.place, self.sockets, self.winner, self.folder = place, sockets, winner, folder

    @contextmanager
    def lie(self, name: str) -> Iterator[Dishonest]:
        """The link lies; the host has found the enclave through it."""
        with lying(self.sockets, name) as link:
            link.wait_for("connected")
            self.place.until_ready(nodes=2)
            yield link

    def ask(self) -> tuple[httpx.Response, Receipt]:
        answer = self.place.ask()
        return answer, self.place.receipt(answer)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    with tempfile.TemporaryDirectory(prefix="pinaivu-") as short:  # a socket's path has little room
        sockets, link = Path(short), ExitStack()
        link.enter_context(lying(sockets, "none"))
        with (
            link,
            market(folder / "market", sockets=sockets, link="link") as place,
            cheating(place, folder, "none") as winner,
        ):
            winner.wait_for("quoting")
            link.close()  # each test has its own
            yield Town(place, sockets, winner, folder)


@pytest.fixture(autouse=True)
def nobody_gains(town: Town) -> Iterator[None]:
    yield
    town.place.check_books()
    town.place.check_quality()
    assert not town.place.suspensions(town.winner.node_id)


class Evidence(msgspec.Struct, frozen=True):
    """What the node holds of one job."""

    award: Award
    signed_award: Signed
    acceptance: Signed
    proof: Signed


def evidence_of(town: Town, request_id: str) -> Evidence:
    award = _signed(town.winner.wait_for("awarded", request_id)["award"])
    acceptance = _signed(town.winner.wait_for("accepted", request_id)["acceptance"])
    proof = _signed(town.winner.wait_for("proved", request_id)["proof"])
    return Evidence(decode(award.payload, Award, check="award"), award, acceptance, proof)


def _signed(shown: dict[str, str]) -> Signed:
    return Signed(shown["payload"].encode(), bytes.fromhex(shown["signature"]))


def check_evidence(town: Town, evidence: Evidence, receipt: Receipt) -> None:
    """The enclave gave this node this job, the node agreed and ran it: signed, whatever the receipt says."""
    (epoch,) = [leaf for leaf in town.place.leaves() if isinstance(leaf, EpochLeaf)]
    verify_enclave("award", evidence.signed_award, epoch.manifest.receipt_public_key())
    assert (evidence.award.request_id, evidence.award.node_id) == (receipt.request_id, town.winner.node_id)
    proof = decode(evidence.proof.payload, Proof, check="proof")
    acceptance = decode(evidence.acceptance.payload, Acceptance, check="acceptance")
    key = load_node_key(bytes.fromhex(proof.public_key))
    verify_node("proof", evidence.proof, key)
    verify_node("acceptance", evidence.acceptance, key)
    assert proof.award == acceptance.award == digest_of(evidence.signed_award.payload)
    assert (proof.outcome, proof.completion_tokens) == ("completed", HONEST_TOKENS)


def test_every_lie_is_tried_here() -> None:
    assert VERDICTS.keys() | OF_THE_SECOND_JOB.keys() | OF_THEIR_OWN == LIES.keys()


@pytest.mark.parametrize("name", VERDICTS)
def test_a_lie_comes_to_what_the_table_says(town: Town, name: str) -> None:
    expected = VERDICTS[name]
    with town.lie(name):
        answer, receipt = town.ask()
        evidence = evidence_of(town, receipt.request_id)
    assert answer.status_code == expected.status, answer.text
    found = (receipt.outcome, receipt.reason, (receipt.prompt_tokens, receipt.completion_tokens))
    assert found == (expected.outcome, expected.reason, expected.paid)
    assert receipt.node_id == town.winner.node_id
    check_payment(receipt, evidence.award)
    check_evidence(town, evidence, receipt)


@pytest.mark.parametrize("name", OF_THE_SECOND_JOB)
def test_what_a_node_signed_for_one_job_is_of_no_use_for_another(town: Town, name: str) -> None:
    with town.lie(name):
        _, first = town.ask()
        answer, second = town.ask()
    assert (first.reason, first.completion_tokens) == ("", HONEST_TOKENS)
    assert (answer.status_code, second.outcome) == (502, "failed")
    assert second.reason in OF_THE_SECOND_JOB[name]
    assert (second.payment_amount, second.charge_amount) == ("0.000000 USDC", "0.000000 USDC")


def test_a_lost_settlement_is_made_up_for_once_the_link_is_back(town: Town) -> None:
    with ThreadPoolExecutor(1) as caller:
        with town.lie("drop") as link:
            asked = caller.submit(town.place.ask)
            request_id = link.wait_for("lied")["request_id"]
            assert request_id not in {receipt.request_id for receipt in town.place.receipts()}
        with town.lie("none"):
            answer = asked.result()
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, request_id)
    (receipt,) = [one for one in town.place.receipts() if one.request_id == request_id]
    assert (receipt.outcome, receipt.completion_tokens) == ("completed", HONEST_TOKENS)


def test_commands_given_twice_are_refused_the_second_time(town: Town) -> None:
    with town.lie("duplicate") as link:
        _, receipt = town.ask()
        told = [link.wait_for("lied", receipt.request_id) for _ in range(4)]
    assert {one["command"]: one["answer"] for one in told} == {
        "OpenJob": "duplicate_request",
        "AcceptAward": "illegal_command",
        "ReportFirstToken": "illegal_command",
        "SettleJob": "already_settled",
    }


@pytest.mark.parametrize(
    ("name", "answer"),
    [("reorder", "already_settled"), ("settled-twice", "already_settled"), ("proof-twice", "Done")],
)
def test_what_comes_after_the_settlement_changes_nothing(town: Town, name: str, answer: str) -> None:
    with town.lie(name) as link:
        _, receipt = town.ask()
        assert link.wait_for("lied", receipt.request_id)["answer"] == answer
    assert [one.request_id for one in town.place.receipts()].count(receipt.request_id) == 1


def test_the_caller_sees_a_changed_request_or_answer_by_its_salt(town: Town) -> None:
    with town.lie("request-changed"):
        answer, receipt = town.ask()
    salt = bytes.fromhex(answer.headers["x-pinaivu-salt"])
    assert receipt.request_commitment == OTHER != request_commitment(json.loads(answer.request.content), salt)
    assert receipt.response_commitment == response_commitment(answer.json()["choices"], salt)
    with town.lie("response-changed"):
        _, receipt = town.ask()
    assert receipt.response_commitment == OTHER


def test_a_node_runs_no_other_request_than_its_award_commits_to(town: Town) -> None:
    """Both nodes decline; the caller is told that nobody answered."""
    with town.lie("forwarded-changed"):
        answer, receipt = town.ask()
    assert (answer.status_code, receipt.outcome, receipt.reason) == (502, "failed", "invalid_award")
    assert [(one.node_id, one.reason) for one in receipt.failed_attempts] == [(town.winner.node_id, "invalid_award")]
    assert receipt.charge_amount == "0.000000 USDC"


def test_an_award_that_the_host_says_failed_is_not_paid_and_its_acceptance_refused(town: Town) -> None:
    with town.lie("failure-before-acceptance") as link:
        answer, receipt = town.ask()
        assert link.wait_for("lied", receipt.request_id)["answer"] == "Awarded"
    assert (answer.status_code, receipt.payment_amount, receipt.charge_amount) == (
        502,
        "0.000000 USDC",
        "0.000000 USDC",
    )
    assert [(one.node_id, one.reason) for one in receipt.failed_attempts] == [(town.winner.node_id, "timeout")]
    assert receipt.node_id == town.place.honest.node_id
    assert receipt.reason in REFUSED


def test_a_job_that_nobody_asked_for_is_in_the_log_and_costs_nothing(town: Town) -> None:
    with town.lie("jobs-unasked") as link:
        _, real = town.ask()
        told = link.wait_for("lied")
    assert (told["beside"], told["answer"]) == (real.request_id, "Awarded")
    (invented,) = [one for one in town.place.receipts() if one.request_id == told["request_id"]]
    assert (invented.account, invented.reason) == (real.account, "not_accepted")
    assert (invented.payment_amount, invented.charge_amount) == ("0.000000 USDC", "0.000000 USDC")


def test_a_host_in_league_with_a_node_gets_no_more_than_the_award_allows(town: Town, tmp_path: Path) -> None:
    """The node claims all that the award allows, the host says that it was delivered: this is the limit of metering.

    The caller, who has the answer, sees that it cannot have so many tokens.
    """
    with town.lie("delivery-more"), cheating(town.place, tmp_path, "usage-beyond-delivery", prices=(200, 600)) as cheat:
        cheat.wait_for("quoting")
        answer, receipt = town.ask()
        bundle = parse_bundle(town.place.bundle(receipt))
        award = decode(cheat.wait_for("awarded")["award"]["payload"].encode(), Award, check="award")
    assert receipt.node_id == cheat.node_id
    assert receipt.completion_tokens == award.max_completion_tokens
    check_payment(receipt, award)
    trust, request = parse_trust(town.place.trust.read_bytes()), json.loads(answer.request.content)
    assert verify_bundle(bundle, trust, request=request).opened == ("request", "forwarded")
    with pytest.raises(VerificationError, match="completion tokens"):
        verify_bundle(bundle, trust, request=request, choices=answer.json()["choices"])


def test_the_node_keeps_the_acknowledgements_that_show_an_auction_left_it_out(town: Town) -> None:
    (epoch,) = [leaf for leaf in town.place.leaves() if isinstance(leaf, EpochLeaf)]
    lines = (town.folder / "none" / "acknowledgements.jsonl").read_text().splitlines()
    kept: dict[str, Any] = json.loads(lines[0])["acknowledgement"]
    signed = Signed(bytes.fromhex(kept["payload"]), bytes.fromhex(kept["signature"]))
    payload = verify_enclave("quote-acknowledgement", signed, epoch.manifest.receipt_public_key())
    assert decode(payload, QuoteAcknowledgement, check="acknowledgement").node_id == town.winner.node_id
