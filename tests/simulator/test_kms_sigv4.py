"""Callers of the simulated KMS prove who they are by Signature Version 4, and are told what AWS would tell them."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.attestation.forge import NOW_MS
from tests.simulator.kms_bench import ACCESS_KEY, KNOWN, SECRET, signed

from pinaivu_shared.wire.kms import SIGNED_HEADERS
from pinaivu_simulator.kms.fault import KmsFault
from pinaivu_simulator.kms.sigv4 import Credentials, authenticate
from pinaivu_simulator.nsm import ROLE

BODY = b'{"KeyId": "x"}'
MINUTE_MS = 60_000
SESSION = {
    "session": Credentials(principal=ROLE, secret=SECRET, session_token="the token", expires_at_ms=NOW_MS + MINUTE_MS)
}
EXPIRED_AT_MS = NOW_MS + MINUTE_MS


def judged(headers: dict[str, str], *, body: bytes = BODY, now_ms: int = NOW_MS) -> str:
    """The principal, or AWS's code."""
    try:
        return authenticate(headers, body, known=KNOWN | SESSION, region="local-1", now_ms=now_ms)
    except KmsFault as fault:
        refusal = fault
    assert SECRET not in str(refusal)
    assert refusal.status == 400
    return refusal.code


def test_a_signature_made_by_hand_from_awss_guide_is_taken() -> None:
    assert judged(signed(BODY)) == ROLE
    assert judged(signed(BODY, access_key="session", token="the token")) == ROLE


def test_further_headers_may_be_signed_or_not() -> None:
    assert judged(signed(BODY) | {"user-agent": "anything", "content-length": "14"}) == ROLE


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (signed(BODY, secret="wrong"), "InvalidSignatureException"),
        (signed(BODY, region="us-east-1"), "InvalidSignatureException"),
        (signed(BODY, service="s3"), "InvalidSignatureException"),
        (signed(b"another body"), "InvalidSignatureException"),
        (signed(BODY, access_key="nobody"), "UnrecognizedClientException"),
        (signed(BODY, token="a token where there is none"), "UnrecognizedClientException"),
        (signed(BODY, access_key="session"), "UnrecognizedClientException"),
        (signed(BODY, access_key="session", token="another token"), "UnrecognizedClientException"),
        (signed(BODY) | {"x-amz-target": "TrentService.Decrypt"}, "InvalidSignatureException"),
        (signed(BODY) | {"host": "kms.us-east-1.amazonaws.com"}, "InvalidSignatureException"),
        (signed(BODY) | {"content-type": "text/plain"}, "InvalidSignatureException"),
        (signed(BODY) | {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}, "InvalidSignatureException"),
        (signed(BODY) | {"x-amz-content-sha256": "é"}, "InvalidSignatureException"),
        (signed(BODY) | {"x-amz-more": "unsigned"}, "InvalidSignatureException"),
        (signed(BODY) | {"x-amz-date": "20261118T151459Z"}, "InvalidSignatureException"),
        (signed(BODY) | {"x-amz-date": "20261399T151459Z"}, "InvalidSignatureException"),
        (signed(BODY) | {"x-amz-date": "Wed, 18 Nov 2026 15:14:59 GMT"}, "IncompleteSignatureException"),
        (signed(BODY) | {"x-amz-date": "\uff120261118T151459Z"}, "IncompleteSignatureException"),
        ({**signed(BODY), "authorization": ""}, "IncompleteSignatureException"),
        ({**signed(BODY), "authorization": "Bearer x"}, "IncompleteSignatureException"),
        ({**signed(BODY), "authorization": signed(BODY)["authorization"][:-1]}, "IncompleteSignatureException"),
        ({**signed(BODY), "authorization": signed(BODY)["authorization"] + "0"}, "IncompleteSignatureException"),
        ({name: value for name, value in signed(BODY).items() if name != "x-amz-date"}, "IncompleteSignatureException"),
        (
            {name: value for name, value in signed(BODY).items() if name != "authorization"},
            "MissingAuthenticationTokenException",
        ),
        (
            {name: value for name, value in signed(BODY).items() if name != "content-type"},
            "InvalidSignatureException",
        ),
    ],
)
def test_what_is_not_signed_well_is_refused_with_awss_code(headers: dict[str, str], code: str) -> None:
    assert judged(headers) == code


@pytest.mark.parametrize("name", SIGNED_HEADERS)
def test_each_header_of_the_contract_must_be_signed(name: str) -> None:
    with pytest.raises(KmsFault, match=f"'{name}' must be a 'SignedHeader'") as fault:
        authenticate(signed(BODY, unsigned=(name,)), BODY, known=KNOWN, region="local-1", now_ms=NOW_MS)
    assert fault.value.code == "InvalidSignatureException"


def test_the_token_of_a_session_must_be_signed() -> None:
    headers = signed(BODY, access_key="session", token="the token", unsigned=("x-amz-security-token",))
    assert judged(headers) == "InvalidSignatureException"


@pytest.mark.parametrize(
    ("minutes", "seconds", "said"),
    [(-5, -1, "Signature expired: "), (5, 1, "Signature not yet current: "), (-5, 1, None), (5, -1, None)],
)
def test_five_minutes_of_skew_are_allowed(minutes: int, seconds: int, said: str | None) -> None:
    headers = signed(BODY, at_ms=NOW_MS + minutes * MINUTE_MS + seconds * 1000)
    if said is None:
        assert judged(headers) == ROLE
        return
    with pytest.raises(KmsFault, match=said) as fault:
        authenticate(headers, BODY, known=KNOWN, region="local-1", now_ms=NOW_MS)
    assert fault.value.code == "InvalidSignatureException"
    assert f"{5} min.)" in fault.value.message


def test_a_session_ends() -> None:
    headers = signed(BODY, access_key="session", token="the token", at_ms=EXPIRED_AT_MS)
    assert judged(headers, now_ms=EXPIRED_AT_MS - 1) == ROLE
    assert judged(headers, now_ms=EXPIRED_AT_MS) == "ExpiredTokenException"


def test_the_body_is_that_whose_hash_was_signed() -> None:
    headers = signed(BODY)
    assert headers["x-amz-content-sha256"] == hashlib.sha256(BODY).hexdigest()
    assert judged(headers, body=BODY + b" ") == "InvalidSignatureException"


@given(st.sampled_from(sorted(signed(BODY))), st.text(max_size=200))
def test_any_header_gives_a_principal_or_one_of_awss_errors(name: str, value: str) -> None:
    good = signed(BODY)
    outcome = judged(good | {name: value})
    assert outcome.endswith("Exception") or value.split() == good[name].split()


@given(st.integers(0, 400), st.characters(codec="ascii"))
def test_a_changed_authorization_is_refused(at: int, new: str) -> None:
    good = signed(BODY)
    value = good["authorization"]
    at %= len(value)
    changed = value[:at] + new + value[at + 1 :]
    assert (judged(good | {"authorization": changed}) == ROLE) == (changed == value)


@pytest.mark.parametrize(
    ("scope", "other"),
    [("/20261118/", "/20261117/"), ("/local-1/", "/other-1/"), ("/kms/", "/s3/"), ("aws4_request", "aws5_request")],
)
def test_the_scope_that_is_shown_is_the_one_that_was_signed(scope: str, other: str) -> None:
    good = signed(BODY)
    changed = good["authorization"].replace(scope, other)
    assert changed != good["authorization"]
    assert judged(good | {"authorization": changed}) in ("InvalidSignatureException", "IncompleteSignatureException")


def test_access_keys_are_told_apart() -> None:
    assert ACCESS_KEY in KNOWN
    assert judged(signed(BODY, access_key=ACCESS_KEY.lower())) == "UnrecognizedClientException"
