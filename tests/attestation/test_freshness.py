"""Freshness: a live document answers our nonce and is recent; an archived one is judged at its own time."""

import datetime as dt

import pytest
from tests.attestation.forge import DOCUMENT, GOOD, NONCE, NOW_MS, PKI, POLICY, ROOT, Forge

from pinaivu_shared.attestation.document import AttestationDocument
from pinaivu_shared.attestation.verify import verify_archived, verify_archived_at, verify_live, verify_recent
from pinaivu_shared.errors import VerificationError

MINUTE_MS = 60_000
LEAF_START_MS = NOW_MS // 1000 * 1000
LEAF_END_MS = LEAF_START_MS + 3 * 3600 * 1000 + 3000


def live(raw: bytes = DOCUMENT, *, nonce: bytes = NONCE, now_ms: int = NOW_MS) -> AttestationDocument:
    return verify_live(raw, root=ROOT, policy=POLICY, nonce=nonce, now_ms=now_ms)


def at(at_ms: int, raw: bytes = DOCUMENT) -> AttestationDocument:
    return verify_archived_at(raw, root=ROOT, policy=POLICY, at_ms=at_ms)


def test_a_fresh_answer_to_our_nonce_is_accepted() -> None:
    assert live().nonce == NONCE
    assert live(now_ms=NOW_MS + 5 * MINUTE_MS).timestamp_ms == NOW_MS


@pytest.mark.parametrize(
    ("in_document", "asked"),
    [
        pytest.param(NONCE, b"another nonce", id="37 mismatch"),
        pytest.param(NONCE[:-1], NONCE, id="37 shorter prefix in the document"),
        pytest.param(NONCE, NONCE[:-1], id="37 shorter prefix asked"),
        pytest.param(NONCE, b"", id="37 empty nonce asked"),
        pytest.param(b"", NONCE, id="37 empty in the document"),
        pytest.param(None, NONCE, id="37 null although asked"),
        pytest.param(None, b"", id="37 null although empty asked"),
    ],
)
def test_a_document_for_another_nonce_is_refused(in_document: bytes | None, asked: bytes) -> None:
    with pytest.raises(VerificationError) as refused:
        live(GOOD.document(nonce=in_document), nonce=asked)
    assert refused.value.check == "attestation nonce"


def test_a_document_older_than_the_limit_is_refused() -> None:
    with pytest.raises(VerificationError) as refused:
        live(now_ms=NOW_MS + 5 * MINUTE_MS + 1)
    assert refused.value.check == "attestation freshness"


def test_the_limit_of_age_is_the_callers() -> None:
    now_ms = NOW_MS + 3_600_000
    verify_recent(DOCUMENT, root=ROOT, policy=POLICY, now_ms=now_ms, max_age_ms=3_600_000)
    with pytest.raises(VerificationError):
        verify_recent(DOCUMENT, root=ROOT, policy=POLICY, now_ms=now_ms)


def test_a_recent_document_is_judged_without_a_nonce() -> None:
    assert verify_recent(DOCUMENT, root=ROOT, policy=POLICY, now_ms=NOW_MS).nonce == NONCE


def test_a_clock_up_to_60_s_slow_is_allowed_for() -> None:
    """A fresh leaf is not backdated, so without this a slow judge refuses every fresh enclave."""
    live(now_ms=LEAF_START_MS - MINUTE_MS + 123)


@pytest.mark.parametrize("slow_ms", [MINUTE_MS + 1, 3_600_000, NOW_MS, NOW_MS + 10**15])
def test_a_slower_clock_is_told_to_check_itself(slow_ms: int) -> None:
    with pytest.raises(VerificationError, match="check your clock") as refused:
        live(now_ms=LEAF_START_MS - slow_ms)
    assert refused.value.check == "attestation chain"


def test_a_document_from_the_future_is_refused_though_its_leaf_is_valid() -> None:
    late = GOOD.document(timestamp=NOW_MS + 2 * MINUTE_MS)
    with pytest.raises(VerificationError, match="check your clock") as refused:
        live(late)
    assert refused.value.check == "attestation freshness"


def test_a_leaf_that_expired_is_refused_live_though_the_document_is_recent() -> None:
    """Attack 42."""
    late = GOOD.document(timestamp=LEAF_END_MS)
    live(late, now_ms=LEAF_END_MS)
    with pytest.raises(VerificationError) as refused:
        live(late, now_ms=LEAF_END_MS + 1000)
    assert refused.value.check == "attestation chain"


def test_an_authority_that_expired_is_refused_live() -> None:
    """Attack 43, with the clock instead of the timestamp."""
    ending = dt.datetime.fromtimestamp(NOW_MS // 1000, dt.UTC) - dt.timedelta(hours=24) + dt.timedelta(minutes=1)
    raw = Forge(PKI, instance={"now": ending}).document()
    live(raw)
    with pytest.raises(VerificationError, match="certificate 3 of cabundle expired"):
        live(raw, now_ms=NOW_MS + 2 * MINUTE_MS)


def test_an_archived_document_is_judged_at_its_own_time() -> None:
    assert verify_archived(DOCUMENT, root=ROOT, policy=POLICY).timestamp_ms == NOW_MS


def test_an_archived_document_is_judged_at_a_time_inside_its_leaf() -> None:
    """Certificates count in whole seconds, so the last one belongs to the leaf entirely."""
    assert at(LEAF_START_MS) == at(NOW_MS) == at(LEAF_END_MS) == at(LEAF_END_MS + 999)


@pytest.mark.parametrize("at_ms", [LEAF_START_MS - 1, LEAF_END_MS + 1000, 0, -(10**18), 10**18])
def test_an_archived_document_is_refused_at_a_time_outside_its_leaf(at_ms: int) -> None:
    with pytest.raises(VerificationError) as refused:
        at(at_ms)
    assert refused.value.check == "attestation chain"


def test_at_a_given_time_the_chain_must_hold_at_the_documents_own_time_too() -> None:
    forge = Forge(PKI, instance={"now": dt.datetime.fromtimestamp(NOW_MS // 1000, dt.UTC) - dt.timedelta(hours=23)})
    with pytest.raises(VerificationError, match="certificate 3 of cabundle expired"):
        at(NOW_MS, forge.document(timestamp=NOW_MS + 2 * 3_600_000))
