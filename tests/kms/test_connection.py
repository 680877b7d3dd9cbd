"""The host carries the connection to KMS. It can cut it and change bytes anywhere, and gains nothing by either."""

import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import rsa

from pinaivu_enclave.kms.connection import MAX_BODY_BYTES, HttpAnswer, exchange
from pinaivu_enclave.kms.failure import AttemptError
from pinaivu_enclave.kms.requests import generate_data_key
from pinaivu_enclave.kms.roots import tls_context

from .authority import Authority
from .envelopes import seal_envelope
from .lab import ENDPOINT, TRUSTED, Host, configuration, http, running_host, sign

pytestmark = pytest.mark.trio

CONFIGURATION = configuration()
CONTEXT = tls_context(CONFIGURATION)
REQUEST = generate_data_key(CONFIGURATION, b"document")
KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
BODY = b'{"CiphertextForRecipient": "%s"}' % seal_envelope(bytes(32), KEY.public_key()).hex().encode()
COMPLETE = HttpAnswer(200, BODY)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with running_host() as host:
        yield host


def answering(host: Host, raw: bytes) -> None:
    host.kms.script.append(lambda _: raw)


async def ask(host: Host) -> HttpAnswer | AttemptError:
    try:
        return await exchange(host, CONTEXT, CONFIGURATION.kms, REQUEST)
    except AttemptError as error:
        return error


async def refused(host: Host) -> AttemptError:
    outcome = await ask(host)
    assert isinstance(outcome, AttemptError)
    return outcome


async def test_kms_receives_our_bytes_and_the_hosts_signature(host: Host) -> None:
    host.sign = lambda asked: sign(asked, token="token")
    answering(host, http(200, BODY))
    assert await ask(host) == COMPLETE
    assert host.asked == [REQUEST.to_sign(CONFIGURATION.kms)]
    (call,) = host.kms.calls
    headers = dict(call.headers)
    assert len(headers) == len(call.headers)
    assert call.raw_body == REQUEST.body
    assert headers == {
        b"content-type": b"application/x-amz-json-1.1",
        b"host": ENDPOINT.encode(),
        b"x-amz-content-sha256": host.asked[0].body_sha256.encode(),
        b"x-amz-date": b"20261120T214011Z",
        b"x-amz-security-token": b"token",
        b"x-amz-target": b"TrentService.GenerateDataKey",
        b"authorization": sign(host.asked[0], token="token").authorization.encode(),
        b"content-length": str(len(REQUEST.body)).encode(),
        b"connection": b"close",
    }


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_stream_cut_at_any_byte_gives_no_answer(host: Host, version: ssl.TLSVersion, *, chunked: bool) -> None:
    host.kms.tls.maximum_version = version
    raw = http(200, BODY)
    if chunked:
        raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    answering(host, raw)
    assert await ask(host) == COMPLETE
    whole = host.wires[-1].carried
    step = 7 if chunked else 1
    for host.cut_at in range(0, whole, step):
        answering(host, raw)
        error = await refused(host)
        assert (error.reason, error.may_pass) == ("connection_broken", True), host.cut_at
        host.kms.script.clear()
    host.cut_at = whole
    answering(host, raw)
    assert await ask(host) == COMPLETE


async def test_a_byte_changed_anywhere_gives_the_same_answer_or_none(host: Host) -> None:
    answering(host, http(200, BODY))
    await ask(host)
    whole, broken = host.wires[0].carried, 0
    for host.bend_at in range(0, whole, 5):
        host.kms.script[:] = [lambda _: http(200, BODY)]
        outcome = await ask(host)
        assert outcome == COMPLETE or isinstance(outcome, AttemptError)
        broken += isinstance(outcome, AttemptError)
    assert broken > whole // 5 * 9 // 10


async def test_a_break_says_when_it_happened(host: Host) -> None:
    answering(host, http(200, BODY))
    await ask(host)
    whole = host.wires[0].carried
    moments = []
    for host.cut_at in (2, 600, whole - 1):
        host.kms.script[:] = [lambda _: http(200, BODY)]
        moments.append(str(await refused(host)).partition(" (")[0])
    assert moments == [
        "host: the connection to KMS broke before the bridge had answered",
        "host: the connection to KMS broke during the TLS handshake",
        "host: the connection to KMS broke before the answer was complete",
    ]


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        (Authority("Mallory").endpoint(ENDPOINT), "issuer certificate"),
        (TRUSTED.endpoint("kms.us-east-1.amazonaws.com"), "Hostname mismatch"),
        (TRUSTED.endpoint("eu-central-1.amazonaws.com"), "Hostname mismatch"),
        (TRUSTED.endpoint("*.amazonaws.com"), "Hostname mismatch"),
        (TRUSTED.endpoint(ENDPOINT, end=dt.datetime(2021, 1, 1, tzinfo=dt.UTC)), "expired"),
    ],
    ids=["of another authority", "of another region", "of the parent domain", "of a wildcard", "expired"],
)
async def test_an_endpoint_with_a_certificate_that_is_not_for_it_gets_no_request(
    host: Host, endpoint: ssl.SSLContext, said: str
) -> None:
    host.kms.tls = endpoint
    error = await refused(host)
    assert (error.peer, error.reason, error.may_pass) == ("host", "certificate", False)
    assert f"not for {ENDPOINT}" in str(error)
    assert said in str(error)
    assert host.kms.calls == []


async def test_the_machines_own_trust_counts_for_nothing(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mallory = Authority("Mallory")
    (tmp_path / "roots.pem").write_text(ssl.DER_cert_to_PEM_cert(bytes.fromhex(mallory.root_hex)))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    host.kms.tls = mallory.endpoint(ENDPOINT)
    answering(host, WHOLE)
    trusting = ssl.create_default_context()
    trusting.verify_flags &= ~ssl.VERIFY_X509_STRICT
    assert (await exchange(host, trusting, CONFIGURATION.kms, REQUEST)).status == 200
    with pytest.raises(AttemptError) as caught:
        await exchange(host, tls_context(CONFIGURATION), CONFIGURATION.kms, REQUEST)
    assert caught.value.reason == "certificate"


async def test_an_answer_without_tls_is_none(host: Host) -> None:
    async def speak_plainly(stream: trio.abc.Stream) -> None:
        await stream.send_all(http(200, BODY))

    host.behind = speak_plainly
    error = await refused(host)
    assert (error.reason, str(error).partition(" (")[0]) == (
        "connection_broken",
        "host: the connection to KMS broke during the TLS handshake",
    )


async def test_a_parent_where_nobody_listens_is_named(host: Host) -> None:
    host.listens = False
    error = await refused(host)
    assert (error.peer, error.reason, error.may_pass) == ("host", "bridge_unreachable", True)
    assert "port 5001" in str(error)


@pytest.mark.parametrize("size", [16 * 1024 + 1, 2**31, 2**32 - 1])
async def test_a_frame_of_the_bridge_beyond_its_bound_is_refused_unread(host: Host, size: int) -> None:
    host.first_bytes = size.to_bytes(4)
    error = await refused(host)
    assert error.reason == "bridge_protocol"
    assert str(size) in str(error)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x80", b"not msgpack"])
async def test_another_frame_of_the_bridge_is_refused(host: Host, payload: bytes) -> None:
    host.first_bytes = len(payload).to_bytes(4) + payload
    assert (await refused(host)).reason == "bridge_protocol"


WHOLE = http(200, BODY)
BROKEN_ANSWERS = {
    "length too large": (http(200, BODY, length=len(BODY) + 1), "connection_broken"),
    "length of 2^63": (http(200, BODY, length=2**63), "connection_broken"),
    "length of 30 digits": (http(200, BODY, length=10**29), "http"),
    "no length": (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, "connection_broken"),
    "two lengths": (WHOLE.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n"), "http"),
    "negative length": (http(200, BODY, length=-1), "http"),
    "another transfer coding": (WHOLE.replace(b"Content-Length", b"Transfer-Encoding: gzip\r\nX"), "http"),
    "chunks without their last": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(BODY), BODY),
        "connection_broken",
    ),
    "chunk of 2^64 bytes": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
        "connection_broken",
    ),
    "body too large": (http(200, bytes(MAX_BODY_BYTES + 1)), "http"),
    "chunks too large together": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"8000\r\n%s\r\n" % bytes(0x8000) * 3 + b"0\r\n\r\n",
        "http",
    ),
    "head too large": (WHOLE.replace(b"\r\n\r\n", b"\r\nX: %s\r\n\r\n" % (b"x" * 40_000)), "http"),
    "100 Continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE, "http"),
    "101 Switching": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "http"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "http"),
    "nothing": (b"", "connection_broken"),
}


@pytest.mark.parametrize(("raw", "reason"), BROKEN_ANSWERS.values(), ids=BROKEN_ANSWERS.keys())
@pytest.mark.parametrize("says_farewell", [False, True])
async def test_an_answer_that_is_not_whole_http_is_refused(
    host: Host, raw: bytes, reason: str, *, says_farewell: bool
) -> None:
    host.kms.says_farewell = says_farewell
    answering(host, raw)
    assert (await refused(host)).reason == reason
    answering(host, WHOLE)
    assert await ask(host) == COMPLETE


async def test_headers_without_end_are_refused_after_16_kib(host: Host) -> None:
    """2 GiB of them are on their way."""
    sent = 0

    async def never_end(stream: trio.abc.Stream) -> None:
        nonlocal sent
        tls = trio.SSLStream(stream, host.kms.tls, server_side=True)
        await tls.send_all(b"HTTP/1.1 200 OK\r\n")
        while sent < 2**31:
            await tls.send_all(b"X-Header: " + b"x" * 1014 + b"\r\n")
            sent += 1026
            await trio.testing.wait_all_tasks_blocked()

    host.behind = never_end
    assert (await refused(host)).reason == "http"
    assert sent < 64 * 1024


async def test_bytes_behind_a_complete_answer_are_not_read_as_one(host: Host) -> None:
    answering(host, WHOLE + http(200, b"another"))
    assert await ask(host) == COMPLETE


@pytest.mark.parametrize("status", [204, 301, 307, 400, 500])
async def test_another_status_is_an_answer_and_no_redirection_is_followed(host: Host, status: int) -> None:
    raw = http(status, b"").replace(b"\r\n\r\n", b"\r\nLocation: https://mallory.test/\r\n\r\n")
    answering(host, raw)
    assert await ask(host) == HttpAnswer(status, b"")
    assert len(host.asked) == 1


async def test_a_host_that_stalls_for_ever_costs_an_attempt(host: Host, autojump_clock: trio.testing.MockClock) -> None:
    async def stall(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    host.behind = stall
    error = await refused(host)
    assert (error.peer, error.reason, error.may_pass) == ("host", "timeout", True)


async def test_no_connection_is_left_open(host: Host) -> None:
    for raw in (WHOLE, b"not HTTP\r\n\r\n"):
        answering(host, raw)
        await ask(host)
        with pytest.raises(trio.ClosedResourceError):
            await host.lent[-1].send_all(b"still there?")
