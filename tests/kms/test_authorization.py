"""The host's signature is over our request and nothing else, and brings no header of the host's making."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_enclave.kms.authorization import judge_answer
from pinaivu_enclave.kms.failure import AttemptError
from pinaivu_shared.wire.kms import BridgeAnswer, BridgeRefusal, SignedHeaders, SignRequest

from .lab import ENDPOINT, SIGNATURE, sign

ASKED = SignRequest(ENDPOINT, "eu-central-1", "TrentService.Decrypt", "ab" * 32)
DATE = "20261120T214011Z"
GOOD = sign(ASKED).authorization
WITH_TOKEN = sign(ASKED, token="t/o+k=en").authorization


def judge(answer: BridgeAnswer) -> list[tuple[bytes, bytes]]:
    return judge_answer(msgspec.msgpack.encode(answer), ASKED)


def judged(payload: bytes) -> list[tuple[bytes, bytes]] | AttemptError:
    try:
        return judge_answer(payload, ASKED)
    except AttemptError as error:
        return error


@pytest.mark.parametrize("token", ["", "t/o+k=en"])
def test_the_headers_are_ours_but_for_date_token_and_signature(token: str) -> None:
    signed = sign(ASKED, token=token)
    expected = [
        (b"content-type", b"application/x-amz-json-1.1"),
        (b"host", ENDPOINT.encode()),
        (b"x-amz-content-sha256", b"ab" * 32),
        (b"x-amz-date", DATE.encode()),
        (b"x-amz-target", b"TrentService.Decrypt"),
        (b"x-amz-security-token", token.encode()),
        (b"authorization", signed.authorization.encode()),
    ]
    assert judge(signed) == [(name, value) for name, value in expected if value]


WRONG = {
    "another algorithm": (GOOD.replace("SHA256", "SHA1"), "algorithm"),
    "a bearer token": ("Bearer abc", "algorithm"),
    "no spaces": (GOOD.replace(", ", ","), "not of the form"),
    "another region": (GOOD.replace("eu-central-1", "us-east-1"), "region us-east-1, not eu-central-1"),
    "another service": (GOOD.replace("/kms/", "/sts/"), "service sts, not kms"),
    "another day": (GOOD.replace("20261120", "20261119"), "date"),
    "another terminator": (GOOD.replace("aws4_request", "aws5_request"), "not of the form"),
    "host unsigned": (GOOD.replace("host;", ""), "not exactly"),
    "hash unsigned": (GOOD.replace("x-amz-content-sha256;", ""), "not exactly"),
    "target unsigned": (GOOD.replace(";x-amz-target", ""), "not exactly"),
    "one header more": (GOOD.replace("content-type;", "content-length;content-type;"), "not exactly"),
    "out of order": (GOOD.replace("content-type;host", "host;content-type"), "not exactly"),
    "a token that is not given": (WITH_TOKEN, "not exactly"),
    "signature too short": (GOOD[:-1], "not of the form"),
    "signature too long": (GOOD + "0", "not of the form"),
    "signature in capitals": (GOOD.replace(SIGNATURE, "A" * 64), "not of the form"),
    "more behind it": (GOOD + ", X=1", "not of the form"),
    "access key with a slash": (GOOD.replace("AKIDEXAMPLE", "AKID/EXAMPLE"), "not of the form"),
    "no access key": (GOOD.replace("AKIDEXAMPLE", ""), "not of the form"),
}


@pytest.mark.parametrize(("authorization", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_signature_of_anything_else_is_refused(authorization: str, said: str) -> None:
    with pytest.raises(AttemptError, match=f"^host: no signature of the request: .*{said}") as caught:
        judge(SignedHeaders(authorization, DATE, ""))
    assert (caught.value.reason, caught.value.may_pass) == ("authorization", False)


def test_a_token_that_is_not_signed_is_refused() -> None:
    with pytest.raises(AttemptError, match="not exactly"):
        judge(SignedHeaders(GOOD, DATE, "token"))


@pytest.mark.parametrize(
    "answer",
    [
        SignedHeaders(GOOD + "\r\nX-Evil: 1", DATE, ""),
        SignedHeaders(GOOD, DATE + "\r\nX-Evil: 1", ""),
        SignedHeaders(GOOD, DATE + "\n", ""),
        SignedHeaders(WITH_TOKEN, DATE, "token\r\nX-Evil: 1"),
        SignedHeaders(WITH_TOKEN, DATE, "two words"),
        SignedHeaders(WITH_TOKEN, DATE, "t" * 8193),
        SignedHeaders(GOOD, "2026-11-20", ""),
    ],
)
def test_no_line_break_comes_through(answer: SignedHeaders) -> None:
    with pytest.raises(AttemptError) as caught:
        judge(answer)
    assert caught.value.reason == "bridge_protocol"


@given(st.text(max_size=60), st.integers(0, len(WITH_TOKEN)), st.text(max_size=20), st.text(max_size=20))
def test_whatever_the_host_puts_in_every_header_is_one_line_of_known_name(
    put_in: str, position: int, date: str, token: str
) -> None:
    authorization = WITH_TOKEN[:position] + put_in + WITH_TOKEN[position:]
    for answer in (
        SignedHeaders(authorization, DATE, "token"),
        SignedHeaders(GOOD, date, ""),
        SignedHeaders(WITH_TOKEN, DATE, token),
    ):
        headers = judged(msgspec.msgpack.encode(answer))
        if isinstance(headers, AttemptError):
            assert headers.reason in {"authorization", "bridge_protocol"}
        else:
            assert len(headers) in {6, 7}
            assert all(re.fullmatch(rb"[!-~]([ -~]*[!-~])?", value) for _, value in headers)


@given(st.binary(max_size=200))
def test_any_frame_gives_headers_or_the_one_kind_of_error(payload: bytes) -> None:
    with pytest.raises(AttemptError) as caught:
        judge_answer(payload, ASKED)
    assert (caught.value.reason, caught.value.peer) == ("bridge_protocol", "host")


def test_a_frame_changed_at_any_byte_gives_headers_or_an_error_of_the_host() -> None:
    good = msgspec.msgpack.encode(sign(ASKED, token="token"))
    for position in range(len(good)):
        for value in range(256):
            headers = judged(good[:position] + bytes([value]) + good[position + 1 :])
            if isinstance(headers, AttemptError):
                assert headers.peer == "host"
            else:
                assert headers[:3] == judge(sign(ASKED))[:3]


def test_a_refusal_of_the_bridge_says_what_to_mend_and_whether_it_may_pass() -> None:
    for code, may_pass, said in (
        ("no_credentials", True, "give the host a role"),
        ("endpoint_unreachable", True, "cannot reach"),
        ("endpoint_not_allowed", False, "does not allow"),
    ):
        refusal = msgspec.convert({"type": "BridgeRefusal", "code": code, "detail": "line\nbreak"}, BridgeRefusal)
        with pytest.raises(AttemptError, match=f"^host: the bridge .*{said}") as caught:
            judge(refusal)
        assert (caught.value.reason, caught.value.may_pass) == ("bridge_refused", may_pass)
        assert "\n" not in str(caught.value)
