"""A refusal by KMS says whose fault it is, and is tried again only where AWS says that it may pass."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_enclave.kms.refusals import AwsRefusal, explain, read_refusal

MEASUREMENTS = {16: b"\x16" * 48, 0: bytes(48), 1: b"\x01" * 48, 2: b"\x02" * 48}


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("raw", "code", "message"),
    [
        (body(__type="AccessDeniedException", Message="no"), "AccessDeniedException", "no"),
        (body(__type="com.amazonaws.kms#ThrottlingException", message="slow"), "ThrottlingException", "slow"),
        (body(__type="KMSInternalException"), "KMSInternalException", ""),
        (body(__type="two\r\nlines", message="two\r\nlines\x1b[2J"), "", "two lines [2J"),
        (body(__type=None, message=None), "", ""),
        (body(__type=1, message="of another type"), "", ""),
        (body(__type="C" * 65, message="m" * 600), "", "m" * 512),
        (b"<html>502 Bad Gateway</html>", "", ""),
        (b'{"__type": "\xff"}', "", ""),
        (b'{"x": ' + b"[" * 60_000, "", ""),
        (b"", "", ""),
    ],
)
def test_any_body_gives_a_refusal_fit_to_be_printed(raw: bytes, code: str, message: str) -> None:
    assert read_refusal(400, raw) == AwsRefusal(400, code, message)


@given(st.binary(max_size=200), st.text(max_size=80), st.text(max_size=80))
def test_no_refusal_carries_a_line_break(raw: bytes, code: str, message: str) -> None:
    for bytes_ in (raw, body(__type=code, message=message)):
        text = str(explain(read_refusal(400, bytes_), MEASUREMENTS))
        assert text.isascii()
        assert text.isprintable()


PASSING = ["DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException", "ThrottlingException"]


@pytest.mark.parametrize(
    ("status", "code"),
    [*((400, code) for code in PASSING), (500, ""), (503, "ServiceUnavailable"), (500, "AccessDenied")],
)
def test_what_may_pass_is_tried_again(status: int, code: str) -> None:
    error = explain(AwsRefusal(status, code, ""), MEASUREMENTS)
    assert (error.peer, error.reason, error.may_pass, error.aws_code) == ("kms", "busy", True, code)


EXPIRED = "Signature expired: 20261120T214011Z is now earlier than 20261120T221011Z (20261120T221511Z - 5 min.)"
EARLY = "Signature not yet current: 20261120T223011Z is still later than 20261120T222011Z (20261120T221511Z + 5 min.)"
NO_MATCH = "The request signature we calculated does not match the signature you provided."


@pytest.mark.parametrize(
    ("code", "message", "peer", "reason", "said"),
    [
        ("ExpiredTokenException", "The security token is expired", "host", "credentials", "credentials have expired"),
        ("UnrecognizedClientException", "token is invalid", "host", "credentials", "does not know the host's"),
        ("InvalidClientTokenId", "", "host", "credentials", "does not know the host's"),
        ("InvalidSignatureException", EXPIRED, "host", "clock", "host's clock"),
        ("InvalidSignatureException", EARLY, "host", "clock", "host's clock"),
        ("RequestExpired", "", "host", "clock", "host's clock"),
        ("InvalidSignatureException", NO_MATCH, "host", "authorization", "host's signature is wrong"),
        ("IncompleteSignature", "", "host", "authorization", "host's signature is incomplete"),
        ("IncompleteSignatureException", "", "host", "authorization", "host's signature is incomplete"),
        ("MissingAuthenticationTokenException", "", "host", "authorization", "host's signature is missing"),
        ("InvalidCiphertextException", "", "host", "refused", "what the host stored"),
        ("IncorrectKeyException", "", "host", "refused", "what the host stored"),
        ("NotFoundException", "", "kms", "refused", "does not exist"),
        ("DisabledException", "", "kms", "refused", "is disabled"),
        ("KMSInvalidStateException", "", "kms", "refused", "pending"),
        ("InvalidKeyUsageException", "", "kms", "refused", "ENCRYPT_DECRYPT"),
        ("ValidationException", "1 validation error detected", "kms", "refused", "1 validation error detected"),
        ("", "", "kms", "http", "HTTP 400, no code: no message"),
    ],
)
def test_what_will_not_pass_says_whose_fault_it_is(code: str, message: str, peer: str, reason: str, said: str) -> None:
    error = explain(AwsRefusal(400, code, message), MEASUREMENTS)
    assert (error.peer, error.reason, error.may_pass, error.aws_code) == (peer, reason, False, code)
    assert said in str(error)
    assert "PCR" not in str(error)


def test_a_denied_access_shows_our_own_measurements_since_kms_does_not_say_which_was_wrong() -> None:
    error = explain(AwsRefusal(400, "AccessDeniedException", "User: … is not authorized"), MEASUREMENTS)
    assert (error.reason, error.may_pass) == ("access_denied", False)
    pcrs = f"PCR0 {'00' * 48} PCR1 {'01' * 48} PCR2 {'02' * 48} PCR16 {'16' * 48}"
    assert pcrs in str(error)


@pytest.mark.parametrize("status", [301, 302, 307, 404, 429])
def test_a_redirection_is_followed_by_nobody(status: int) -> None:
    assert not explain(read_refusal(status, b""), MEASUREMENTS).may_pass
