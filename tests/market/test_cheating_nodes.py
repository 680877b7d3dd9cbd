"""Nodes that cheat, against the real host and enclave: what it costs the others, what they get, what the receipt says.

Each cheat asks for less than the honest node, so it wins the auction first. The table says what follows. Where a cheat
fails before its first token the honest node answers in its place; after it the caller is told, and pays nothing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from pinaivu_shared.canonical import decode
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.terms import Award
from pinaivu_simulator.cheats.table import CHEATS

from .place import FEE_BPS, QUESTION, SHORT, Place
from .programs import Dishonest, cheating

HONEST_TOKENS: Final = 40
"""The echo engine's count of the question, and of the answer, which repeats it."""
DELIVERED_BYTES: Final = len(QUESTION)
ALLOWANCE: Final = 8


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller gets, what the receipt says, how many tokens the cheat is paid for, and what becomes of it.

    `status` 200 with `instead` means that the honest node answered; `reason` is then why the cheat did not.
    """

    status: int
    reason: str
    outcome: str = "completed"
    instead: bool = False
    paid: tuple[int, int] = (0, 0)
    suspended: bool = False


def instead(reason: str) -> Verdict:
    """The honest node answered, the cheat failed for this reason."""
    return Verdict(status=200, reason=reason, instead=True)


def caught(reason: str) -> Verdict:
    """The answer was over or under way: the caller is told, nobody is paid."""
    return Verdict(status=502, outcome="failed", reason=reason)


WHOLE_PROMPT: Final = -1
"""In place of prompt tokens: as many as the award allows for this request."""
VERDICTS: Final[dict[str, Verdict]] = {
    "none": Verdict(status=200, reason="", paid=(HONEST_TOKENS, HONEST_TOKENS)),
    # the claim is signed evidence: no pay, and suspended
    "usage-beyond-award": Verdict(status=200, reason="usage_absurd", suspended=True),
    "usage-far-beyond-request": Verdict(status=200, reason="usage_absurd", suspended=True),
    # cut to exactly the bound
    "usage-beyond-request": Verdict(status=200, reason="prompt_cut", paid=(WHOLE_PROMPT, HONEST_TOKENS)),
    "usage-beyond-delivery": Verdict(status=200, reason="usage_cut", paid=(HONEST_TOKENS, DELIVERED_BYTES + ALLOWANCE)),
    # nobody can tell without a tokenizer: this is the bound, and it is paid
    "usage-within-delivery": Verdict(status=200, reason="", paid=(WHOLE_PROMPT, DELIVERED_BYTES + ALLOWANCE)),
    "unaccepted": instead("protocol_violation"),
    "proof-alone": instead("node_failed"),
    "award-of-another": instead("acceptance_refused"),
    "proof-broken": caught("invalid_proof"),
    # paid for what the first proof says, suspended for the second
    "proof-twice": Verdict(status=200, reason="", paid=(HONEST_TOKENS, HONEST_TOKENS), suspended=True),
    "stall-before-accept": instead("timeout"),
    "stall-before-first-token": instead("timeout"),
    "stall-mid-stream": Verdict(status=504, outcome="failed", reason="timeout"),
    "stall-before-proof": caught("no_proof"),
    "endless-stream": caught("answer_too_long"),
    "garbage": instead("node_disconnected"),
    "half-frame": instead("timeout"),
    "endless-fragments": instead("node_disconnected"),
    "tiny-pieces": Verdict(status=200, reason="", paid=(HONEST_TOKENS, HONEST_TOKENS)),
}
SENT_AWAY: Final = {
    "quote-replayed": "refused_quote",
    "sequence-reused": "refused_quote",
    "quote-of-another-session": "verification_failed",
    "key-of-another": "verification_failed",
    "challenge-made-up": "verification_failed",
    "registration-replayed": "verification_failed",
}
"""Cheats whose connection is closed, and the code of the Goodbye."""
OF_THEIR_OWN: Final = {
    "empty-answer",
    "decline-false",
    "never-offered",
    "proof-replayed",
    "proof-changed",
    "half-hello",
}


@pytest.fixture(autouse=True)
def nobody_is_harmed(place: Place) -> Iterator[None]:
    yield
    place.check_books()
    place.check_quality()
    place.check_honest_node()


def check_payment(receipt: Receipt, award: Award) -> None:
    """Whatever is paid is within the award, and the customer owes that and the fee."""
    paid, charged = parse_usdc(receipt.payment_amount), parse_usdc(receipt.charge_amount)
    assert paid <= award.payment_cap
    assert charged <= award.payment_cap + -(-award.payment_cap * FEE_BPS // 10_000)
    assert (receipt.prompt_tokens or receipt.completion_tokens) or (paid, charged) == (0, 0)


def award_of(cheat: Dishonest) -> Award:
    """The award that the cheat was given last."""
    return decode(cheat.wait_for("awarded")["award"]["payload"].encode(), Award, check="award")


def test_every_cheat_is_tried_here() -> None:
    assert VERDICTS.keys() | SENT_AWAY.keys() | OF_THEIR_OWN == CHEATS.keys()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", [name for name in VERDICTS if "stall" not in name and "endless" not in name])
def test_a_cheat_gets_what_the_table_says(place: Place, tmp_path: Path, name: str, *, stream: bool) -> None:
    check_verdict(place, tmp_path, name, stream=stream)


@pytest.mark.parametrize("name", [name for name in VERDICTS if "stall" in name or "endless" in name])
def test_a_cheat_that_takes_its_time_gets_what_the_table_says(place: Place, tmp_path: Path, name: str) -> None:
    check_verdict(place, tmp_path, name, stream=False)


def check_verdict(place: Place, folder: Path, name: str, *, stream: bool) -> None:
    expected = VERDICTS[name]
    with cheating(place, folder, name) as cheat:
        cheat.wait_for("quoting")
        answer = place.ask(stream=stream)
        award, receipt = award_of(cheat), place.receipt(answer)
        assert receipt.request_id == award.request_id
        check_answer(answer.status_code, answer.text, expected, stream=stream)
        check_receipt(receipt, award, cheat.node_id, expected)
        if expected.suspended:
            assert is_suspended(place, cheat.node_id, within=50)
    if not expected.suspended:
        place.receipt(place.ask())  # whatever the enclave had to say of the job is in the log before this
        assert not place.suspensions(cheat.node_id)


def is_suspended(place: Place, node_id: str, *, within: int, times: int = 1) -> bool:
    """Whether the log says so by the time that so many more jobs are in it."""
    for _ in range(within):
        place.receipt(place.ask())
        if len(place.suspensions(node_id)) >= times:
            return True
    return False


def check_answer(status: int, text: str, expected: Verdict, *, stream: bool) -> None:
    if stream and status == 200 and expected.status != 200:
        assert '"error"' in text, text  # the answer had begun
        assert "[DONE]" not in text
    else:
        assert status == expected.status, text


def check_receipt(receipt: Receipt, award: Award, cheat: str, expected: Verdict) -> None:
    check_payment(receipt, award)
    if expected.instead:
        assert [(one.node_id, one.reason) for one in receipt.failed_attempts] == [(cheat, expected.reason)]
        assert (receipt.node_id != cheat, receipt.outcome, receipt.reason) == (True, "completed", "")
        return
    prompt, completion = expected.paid
    tokens = (award.max_prompt_tokens if prompt == WHOLE_PROMPT else prompt, completion)
    found = (receipt.node_id, receipt.outcome, receipt.reason, (receipt.prompt_tokens, receipt.completion_tokens))
    assert found == (cheat, expected.outcome, expected.reason, tokens)


@pytest.mark.parametrize("name", SENT_AWAY)
def test_a_cheat_about_who_it_is_or_what_it_quotes_is_sent_away(place: Place, tmp_path: Path, name: str) -> None:
    """Before that it may have won a job, which the honest node then answers."""
    with cheating(place, tmp_path, name, victim=place.honest.public_key.hex()) as cheat:
        cheat.wait_for("cheated")
        assert cheat.wait_for("goodbye")["code"] == SENT_AWAY[name]
        answer = place.ask()
        assert answer.status_code == 200
        assert place.receipt(answer).completion_tokens == HONEST_TOKENS


def test_half_a_hello_keeps_nobody_from_being_served(place: Place, tmp_path: Path) -> None:
    with cheating(place, tmp_path, "half-hello") as cheat:
        cheat.wait_for("cheated")
        receipt = place.receipt(place.ask())
        assert (receipt.node_id, receipt.failed_attempts) == (place.honest.node_id, ())


@pytest.mark.parametrize(("stop", "reason"), [(None, "empty_answer"), ("\n", "stopped_at_once")])
def test_an_empty_answer_is_not_paid_and_counts_unless_the_callers_stop_may_have_ended_it(
    place: Place, tmp_path: Path, stop: str | None, reason: str
) -> None:
    with cheating(place, tmp_path, "empty-answer") as cheat:
        cheat.wait_for("quoting")
        receipt = place.receipt(place.ask(stop=stop))
        assert (receipt.node_id, receipt.reason) == (cheat.node_id, reason)
        assert (receipt.payment_amount, receipt.charge_amount) == ("0.000000 USDC", "0.000000 USDC")
        state = place.state()
        quality_bps = state.quality.standing(cheat.node_id, state.terms).quality_bps
        assert (quality_bps < state.terms.prior_bps) == (stop is None)


def test_a_decline_that_blames_the_request_does_not_keep_the_caller_from_the_honest_node(
    place: Place, tmp_path: Path
) -> None:
    with cheating(place, tmp_path, "decline-false") as cheat:
        cheat.wait_for("quoting")
        answer = place.ask()
        assert (answer.status_code, place.receipt(answer).node_id) == (200, place.honest.node_id)


def test_what_was_never_offered_is_in_no_log(place: Place, tmp_path: Path) -> None:
    with cheating(place, tmp_path, "never-offered") as cheat:
        cheat.wait_for("quoting")
        receipts = [place.receipt(place.ask()) for _ in range(2)]
        invented = {cheat.wait_for("cheated")["request_id"] for _ in range(2)}
        assert {receipt.node_id for receipt in receipts} == {cheat.node_id}
        assert {receipt.completion_tokens for receipt in receipts} == {HONEST_TOKENS}
        assert not invented & {receipt.request_id for receipt in place.receipts()}


def test_an_old_proof_pays_no_new_job(place: Place, tmp_path: Path) -> None:
    with cheating(place, tmp_path, "proof-replayed") as cheat:
        cheat.wait_for("quoting")
        first = place.receipt(place.ask())
        assert (first.node_id, first.reason, first.completion_tokens) == (cheat.node_id, "", HONEST_TOKENS)
        answer = place.ask()
        second = place.receipt(answer)
        assert (answer.status_code, second.node_id, second.reason) == (502, cheat.node_id, "invalid_proof")
        assert (second.payment_amount, second.node_proof) == ("0.000000 USDC", "")


def test_a_proof_that_names_anything_else_than_the_award_pays_nothing(place: Place, tmp_path: Path) -> None:
    with cheating(place, tmp_path, "proof-changed") as cheat:
        cheat.wait_for("quoting")
        reasons = {}
        for _ in range(7):
            receipt = place.receipt(place.ask())
            reasons[cheat.wait_for("cheated", receipt.request_id)["changed"]] = receipt.reason
            assert (receipt.node_id, receipt.payment_amount) == (cheat.node_id, "0.000000 USDC")
        assert reasons.pop("response_commitment") == "response_mismatch"
        assert (len(reasons), set(reasons.values())) == (6, {"invalid_proof"})


def test_a_suspended_cheat_wins_nothing_until_it_may_come_back(place: Place, tmp_path: Path) -> None:
    """It stays connected, its quote stands, and it is in no auction; then it begins again, at half the prior."""
    with cheating(place, tmp_path, "usage-beyond-award") as cheat:
        cheat.wait_for("quoting")
        place.receipt(place.ask())
        assert is_suspended(place, cheat.node_id, within=50)
        (first,) = place.suspensions(cheat.node_id)
        assert first.until_ms - first.suspended_ms == SHORT.suspension_ms
        receipt = place.receipt(place.ask())
        assert (receipt.node_id, receipt.auction.bids) == (place.honest.node_id, 1)
        state = place.state()
        assert state.quality.standing(cheat.node_id, state.terms).quality_bps <= state.terms.prior_bps // 2
        while place.receipt(place.ask()).node_id != cheat.node_id:
            assert len(place.suspensions(cheat.node_id)) == 1
        assert is_suspended(place, cheat.node_id, within=50, times=2)
        _, second = place.suspensions(cheat.node_id)
        assert second.suspended_ms >= first.until_ms
        assert second.until_ms - second.suspended_ms == 2 * SHORT.suspension_ms
