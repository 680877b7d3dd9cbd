"""The shell around the service: HTTP/1.1 (h11) over TLS over TCP, as the regional endpoint of AWS speaks it."""

import logging
import ssl
import uuid
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

import h11
import trio

from pinaivu_shared.wire.kms import KMS_CONTENT_TYPE
from pinaivu_simulator.kms.fault import KmsFault
from pinaivu_simulator.kms.service import KmsAnswer, KmsService

MAX_BODY_BYTES: Final = 512 * 1024  # a document may have 262144 bytes, 4/3 of that in base64
REQUEST_SECONDS: Final = 60.0
_CHUNK_BYTES: Final = 65_536

logger = logging.getLogger(__name__)


async def serve_kms(
    service: KmsService,
    *,
    tls: ssl.SSLContext,
    listeners: Sequence[trio.SocketListener],
    now_ms: Callable[[], int],
) -> NoReturn:
    """Answer until cancelled. No client can end it: one that breaks TLS or HTTP loses its connection only."""

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await _serve_connection(stream, service, now_ms)
        except (trio.BrokenResourceError, h11.ProtocolError, trio.TooSlowError) as error:
            logger.info("connection lost", extra={"kv": {"why": repr(error.__cause__ or error)}})

    secured = [trio.SSLListener(listener, tls) for listener in listeners]
    await trio.serve_listeners(serve, secured)


async def _serve_connection(
    stream: trio.SSLStream[trio.SocketStream], service: KmsService, now_ms: Callable[[], int]
) -> None:
    connection = h11.Connection(h11.SERVER)
    reusable = True
    while reusable:
        with trio.fail_after(REQUEST_SECONDS):
            found = await _receive(stream, connection)
            if found is None:
                break
            request, body = found
            await _send(stream, connection, _answer(service, request, body, now_ms()))
        reusable = connection.our_state is h11.DONE and connection.their_state is h11.DONE
        if reusable:
            connection.start_next_cycle()
    await stream.aclose()


def _answer(service: KmsService, request: h11.Request, body: bytes, now_ms: int) -> KmsAnswer:
    if (request.method, request.target) != (b"POST", b"/"):
        return KmsAnswer(404, KmsFault("UnknownOperationException").body)
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value  # as SigV4 joins them
    return service.answer(headers, body, now_ms)


async def _receive(
    stream: trio.SSLStream[trio.SocketStream], connection: h11.Connection
) -> tuple[h11.Request, bytes] | None:
    """A request and its body, or None when the client has gone."""
    request, body = None, bytearray()
    while True:
        event = connection.next_event()
        match event:
            case h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    await stream.send_all(_bytes(connection, h11.InformationalResponse(status_code=100, headers=[])))
                connection.receive_data(bytes(await stream.receive_some(_CHUNK_BYTES)))
            case h11.Request():
                request = event
            case h11.Data():
                body += event.data
                if len(body) > MAX_BODY_BYTES:
                    raise h11.RemoteProtocolError(f"a body of more than {MAX_BODY_BYTES} bytes")
            case h11.EndOfMessage():
                assert request is not None
                return request, bytes(body)
            case _:
                return None


async def _send(stream: trio.SSLStream[trio.SocketStream], connection: h11.Connection, answer: KmsAnswer) -> None:
    headers = [
        ("content-type", KMS_CONTENT_TYPE),
        ("content-length", str(len(answer.body))),
        ("x-amzn-requestid", str(uuid.uuid4())),
    ]
    response = h11.Response(status_code=answer.status, headers=headers)
    parts = (response, h11.Data(data=answer.body), h11.EndOfMessage())
    await stream.send_all(b"".join(_bytes(connection, part) for part in parts))


def _bytes(connection: h11.Connection, event: h11.Event) -> bytes:
    sent = connection.send(event)
    assert sent is not None  # None is for ConnectionClosed
    return sent
