"""One request to KMS: through the host's byte pipe, in a TLS connection that ends in the enclave.

The host can refuse, stall, cut and change bytes, and can lead the pipe anywhere. None of it gives an answer: one is
taken only from an endpoint that proved its name, and only when its last byte, as HTTP counts them, has arrived.
"""

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import h11
import msgspec
import trio

from pinaivu_enclave.kms.authorization import Header, judge_answer
from pinaivu_enclave.kms.failure import AttemptError
from pinaivu_enclave.kms.requests import KmsRequest
from pinaivu_enclave.parent import Parent
from pinaivu_shared.configuration import KmsTerms
from pinaivu_shared.framing import PREFIX_BYTES, frame
from pinaivu_shared.wire.kms import MAX_BRIDGE_FRAME_BYTES, SignRequest
from pinaivu_shared.wire.ports import KMS_PORT

EXCHANGE_SECONDS: Final = 40.0  # the bridge may look for credentials for 20 s and dial for 10 s
MAX_HEAD_BYTES: Final = 16 * 1024
MAX_BODY_BYTES: Final = 64 * 1024
READ_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete answer of the endpoint, of any status; at most 64 KiB."""

    status: int
    body: bytes = field(repr=False)


async def exchange(parent: Parent, context: ssl.SSLContext, terms: KmsTerms, request: KmsRequest) -> HttpAnswer:
    """Send one request and have its whole answer within EXCHANGE_SECONDS; AttemptError says what went wrong."""
    try:
        with trio.fail_after(EXCHANGE_SECONDS):
            stream = await _dial(parent)
            try:
                headers = await _have_signed(stream, request.to_sign(terms))
                tls = await _shake_hands(stream, context, terms.endpoint)
                return await _post(tls, headers, request.body)
            finally:
                await trio.aclose_forcefully(stream)  # a polite end would wait for the host
    except trio.TooSlowError as error:
        raise AttemptError(
            "host", "timeout", f"no answer of KMS came through within {EXCHANGE_SECONDS:.0f} s", may_pass=True
        ) from error


async def _dial(parent: Parent) -> trio.abc.Stream:
    try:
        return await parent.connect(KMS_PORT)
    except OSError as error:
        raise AttemptError(
            "host", "bridge_unreachable", f"nobody listens on port {KMS_PORT} of the parent: {error}", may_pass=True
        ) from error


async def _have_signed(stream: trio.abc.Stream, asked: SignRequest) -> list[Header]:
    """Ask the bridge for its signature. After it not one byte more is read: what follows belongs to TLS."""
    with _naming_the_break("before the bridge had answered"):
        await stream.send_all(frame(msgspec.msgpack.encode(asked), max_bytes=MAX_BRIDGE_FRAME_BYTES))
        size = int.from_bytes(await _receive_exactly(stream, PREFIX_BYTES))
        if size > MAX_BRIDGE_FRAME_BYTES:
            raise AttemptError(
                "host",
                "bridge_protocol",
                f"the bridge announced a frame of {size} bytes, at most {MAX_BRIDGE_FRAME_BYTES} are allowed",
                may_pass=False,
            )
        payload = await _receive_exactly(stream, size)
    return judge_answer(payload, asked)


async def _receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        part = await stream.receive_some(size - len(received))
        if not part:
            raise trio.BrokenResourceError("ended")
        received += part
    return bytes(received)


async def _shake_hands(
    stream: trio.abc.Stream, context: ssl.SSLContext, endpoint: str
) -> trio.SSLStream[trio.abc.Stream]:
    tls = trio.SSLStream(stream, context, server_hostname=endpoint)
    with _naming_the_break("during the TLS handshake"):
        try:
            await tls.do_handshake()
        except trio.BrokenResourceError as error:
            if not isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise
            raise AttemptError(
                "host",
                "certificate",
                f"the pipe leads to one whose TLS certificate is not for {endpoint}: {error.__cause__.verify_message}",
                may_pass=False,
            ) from error
    return tls


async def _post(tls: trio.SSLStream[trio.abc.Stream], headers: list[Header], body: bytes) -> HttpAnswer:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    framing = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    request = h11.Request(method="POST", target="/", headers=[*headers, *framing])
    wire = [http.send(event) or b"" for event in (request, h11.Data(data=body), h11.EndOfMessage())]
    with _naming_the_break("before the answer was complete"):
        await tls.send_all(b"".join(wire))
        return await _receive_answer(tls, http)


async def _receive_answer(tls: trio.abc.ReceiveStream, http: h11.Connection) -> HttpAnswer:
    """Read until HTTP says that the answer is complete. The end of the stream never does: no cut can shorten one."""
    status, body = 0, bytearray()
    while True:
        match _next_event(http):
            case h11.Response(status_code=code):
                status = code
            case h11.Data(data=part):
                body += part
                if len(body) > MAX_BODY_BYTES:
                    raise _http_failure(f"the body has more than {MAX_BODY_BYTES} bytes")
            case h11.EndOfMessage():
                return HttpAnswer(status, bytes(body))
            case h11.NEED_DATA:
                received = await tls.receive_some(READ_BYTES)
                if not received:
                    raise trio.BrokenResourceError("ended")
                http.receive_data(bytes(received))
            case unasked:
                raise _http_failure(f"sent {type(unasked).__name__}, which was not asked for")


def _next_event(http: h11.Connection) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
    try:
        return http.next_event()
    except h11.RemoteProtocolError as error:
        raise _http_failure(f"not HTTP, or a head of more than {MAX_HEAD_BYTES} bytes: {error}") from error


def _http_failure(detail: str) -> AttemptError:
    return AttemptError("kms", "http", detail, may_pass=False)


@contextlib.contextmanager
def _naming_the_break(moment: str) -> Iterator[None]:
    try:
        yield
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        cause = error.__cause__
        how = f" ({cause.reason})" if isinstance(cause, ssl.SSLError) and cause.reason else ""
        raise AttemptError(
            "host", "connection_broken", f"the connection to KMS broke {moment}{how}", may_pass=True
        ) from error
