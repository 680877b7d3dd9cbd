"""Metering within its bounds, whatever award, proof and delivery come together."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_enclave.core.metering import Evidence, is_absurd, meter
from pinaivu_shared.configuration import MeteringLimits
from pinaivu_shared.ids import digest_of
from pinaivu_shared.signed import Signed
from pinaivu_shared.terms import Award, Proof
from pinaivu_shared.wire import link

ANSWER = digest_of(b"answer")
LIMITS = MeteringLimits(completion_allowance=8, template_allowance=64, recount_tolerance_bps=500)
COUNTS = st.integers(0, 2**31)


@st.composite
def evidence(draw: st.DrawFn) -> tuple[Evidence, Proof]:
    """Any award, proof and delivery that could come together."""
    max_prompt = draw(COUNTS)
    award = Award(
        request_id="req_" + "0" * 26,
        attempt=1,
        node_id="node_" + "0" * 32,
        session="ses_" + "0" * 32,
        model="m",
        request_commitment=ANSWER,
        forwarded_commitment=ANSWER,
        request_bytes=draw(COUNTS),
        quote=ANSWER,
        transcript=ANSWER,
        input_price=1,
        output_price=1,
        max_prompt_tokens=max_prompt,
        max_completion_tokens=draw(st.just(0) | COUNTS),
        payment_cap=1,
        awarded_ms=0,
        first_token_by_ms=0,
        deadline_ms=0,
    )
    proof = Proof(
        request_id=award.request_id,
        node_id=award.node_id,
        session=award.session,
        sequence=1,
        public_key="0" * 64,
        award=ANSWER,
        outcome=draw(st.sampled_from(["completed", "cancelled", "failed"])),
        reason="",
        prompt_tokens=draw(COUNTS),
        completion_tokens=draw(st.integers(0, 9) | COUNTS),
        forwarded_commitment=ANSWER,
        response_commitment=ANSWER,
        first_token_ms=0,
        duration_ms=0,
    )
    said = Evidence(
        award=award,
        shortened=draw(st.booleans()),
        may_be_empty=draw(st.booleans()),
        accepted=draw(st.booleans()),
        outcome=draw(st.sampled_from(["completed", "cancelled", "failed"])),
        reason=draw(st.sampled_from(["", "client_disconnected"])),
        delivery=link.Delivery(
            draw(st.just(0) | st.integers(0, 2**40)), ANSWER, draw(st.none() | COUNTS), draw(st.none() | COUNTS)
        ),
        proof=Signed(b"", b""),
    )
    return said, proof


def bounds(said: Evidence) -> list[int]:
    recounted = said.delivery.recounted_tokens
    delivered = said.delivery.delivered_bytes + LIMITS.completion_allowance
    return [said.award.max_completion_tokens, delivered, *([] if recounted is None else [recounted])]


@given(evidence())
def test_nothing_is_paid_beyond_claim_award_delivery_and_recount(drawn: tuple[Evidence, Proof]) -> None:
    said, proof = drawn
    metered = meter(said, proof, LIMITS)
    assert 0 <= metered.completion_tokens <= min(proof.completion_tokens, *bounds(said))
    assert 0 <= metered.prompt_tokens <= min(proof.prompt_tokens, said.award.max_prompt_tokens)
    embeds = said.award.max_completion_tokens == 0
    if metered.paid:
        assert said.accepted
        assert said.delivery.delivered_bytes
        assert metered.completion_tokens or (embeds and metered.outcome == "completed")
        assert metered.outcome == said.outcome != "failed"
        assert not is_absurd(proof, said.award, LIMITS)
    else:
        assert metered.reason


@given(evidence())
def test_that_an_answer_may_be_empty_changes_nothing_but_what_an_empty_one_is_called(
    drawn: tuple[Evidence, Proof],
) -> None:
    said, proof = drawn
    usual, allowed = (
        meter(msgspec.structs.replace(said, may_be_empty=may_be_empty), proof, LIMITS) for may_be_empty in (False, True)
    )
    called = "stopped_at_once" if usual.reason == "empty_answer" else usual.reason
    assert allowed == msgspec.structs.replace(usual, reason=called)


@given(evidence())
def test_without_a_proof_nothing_is_paid(drawn: tuple[Evidence, Proof]) -> None:
    metered = meter(drawn[0], None, LIMITS)
    assert (metered.prompt_tokens, metered.completion_tokens, metered.absurd) == (0, 0, False)
    assert metered.reason


@given(evidence(), COUNTS)
def test_no_greater_claim_makes_a_cancelled_job_pay_more_than_the_bounds(
    drawn: tuple[Evidence, Proof], greater: int
) -> None:
    """Whoever claims more gets at most what was delivered, and from some point on nothing."""
    said, proof = drawn
    changed = {name: getattr(proof, name) for name in Proof.__struct_fields__} | {"completion_tokens": greater}
    assert meter(said, Proof(**changed), LIMITS).completion_tokens <= min(bounds(said))
