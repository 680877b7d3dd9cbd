"""The KMS bridge: signs what the enclave asks for, then carries bytes, whatever either end does.

The endpoint is a TCP server that answers as the test says. What TLS and KMS make of the bytes is the enclave's chapter.
"""

import asyncio
import logging
import resource
import secrets
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.host.test_command import free_port

from pinaivu_host.kms_bridge import CONNECTIONS_MAX, KmsBridge, is_stranger, read_request
from pinaivu_host.link_address import open_link, parse_address
from pinaivu_host.listening_address import parse_listening_address
from pinaivu_host.streams import Stream, aborting
from pinaivu_shared.configuration import KmsTerms
from pinaivu_shared.errors import CallerError, PeerError
from pinaivu_shared.framing import frame
from pinaivu_shared.wire.kms import (
    MAX_BRIDGE_FRAME_BYTES,
    BridgeAnswer,
    BridgeRefusal,
    SignedHeaders,
    SignRequest,
)

pytestmark = pytest.mark.anyio

TERMS = KmsTerms(key_arn="arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", tls_root="")
REQUEST = SignRequest(
    endpoint="kms.eu-west-1.amazonaws.com",
    region="eu-west-1",
    target="TrentService.Decrypt",
    body_sha256="ab" * 32,
)
Endpoint = Callable[[StreamReader, StreamWriter], Awaitable[None]]


def found() -> Credentials:
    return Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session-token")


async def echo(reader: StreamReader, writer: StreamWriter) -> None:
    while received := await reader.read(65536):
        writer.write(received)
        await writer.drain()
    writer.write(b" and good-bye")
    writer.write_eof()


class Bridged:
    """A bridge on a Unix socket, and how the enclave uses it."""

    def __init__(self, folder: Path, connect_to: tuple[str, int], find: Any = found) -> None:
        self.path = folder / "kms.sock"
        self.bridge = KmsBridge(
            parse_listening_address(f"unix:{self.path}"), TERMS, find_credentials=find, connect_to=connect_to
        )

    async def dial(self) -> Stream:
        while True:
            try:
                return await open_link(parse_address(f"unix:{self.path}"))
            except BlockingIOError:
                await asyncio.sleep(0)  # the backlog is full

    async def ask(self, request: SignRequest = REQUEST) -> tuple[BridgeAnswer, Stream]:
        stream = await self.dial()
        stream[1].write(frame(msgspec.msgpack.encode(request), max_bytes=MAX_BRIDGE_FRAME_BYTES))
        return await read_answer(stream[0]), stream

    async def pipe(self) -> Stream:
        answer, stream = await self.ask()
        assert isinstance(answer, SignedHeaders)
        return stream


async def read_answer(reader: StreamReader) -> BridgeAnswer:
    size = int.from_bytes(await reader.readexactly(4))
    answer: BridgeAnswer = msgspec.msgpack.decode(await reader.readexactly(size), type=BridgeAnswer)
    return answer


@asynccontextmanager
async def bridged(folder: Path, endpoint: Endpoint = echo, find: Any = found) -> AsyncIterator[Bridged]:
    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(ConnectionError), aborting((reader, writer)):
            await endpoint(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    opened = Bridged(folder, server.sockets[0].getsockname(), find)
    opened.bridge.start()
    try:
        yield opened
    finally:
        await opened.bridge.stop()
        server.close()
        await server.wait_closed()
    assert not opened.path.exists()


def kv(caplog: pytest.LogCaptureFixture, event: str) -> dict[str, Any]:
    """The data of the one line with this event."""
    (found_kv,) = [getattr(record, "kv", {}) for record in caplog.records if record.getMessage() == event]
    assert isinstance(found_kv, dict)
    return found_kv


async def logged(caplog: pytest.LogCaptureFixture, event: str) -> None:
    while event not in caplog.messages:  # noqa: ASYNC110 - the bridge logs it after the pipe has ended
        await asyncio.sleep(0)


async def test_after_the_signature_bytes_go_both_ways(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with bridged(tmp_path) as opened:
        reader, writer = await opened.pipe()
        writer.write(b"client hello")
        assert await reader.readexactly(12) == b"client hello"
        writer.write(b", finished")
        writer.write_eof()
        assert await reader.read() == b", finished and good-bye"
        await logged(caplog, "KMS request carried")
        writer.close()
    carried = {"target": "TrentService.Decrypt", "outwards": 22, "inwards": 35, "end": "closed"}
    assert kv(caplog, "KMS request carried") == carried


async def test_large_volumes_arrive_whole(tmp_path: Path) -> None:
    content = secrets.token_bytes(8 * 1024 * 1024)
    async with bridged(tmp_path) as opened:
        reader, writer = await opened.pipe()

        async def send() -> None:
            writer.write(content)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        assert await reader.read() == content + b" and good-bye"
        await sending
        writer.close()


async def test_who_does_not_read_is_sent_no_more_than_buffers_hold(tmp_path: Path) -> None:
    sent = 0
    stalled = asyncio.Event()

    async def flood(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal sent
        while sent < 64 * 1024 * 1024:
            writer.write(bytes(65536))
            draining = asyncio.create_task(writer.drain())
            for _ in range(1000):  # as many turns of the loop in which nothing moves: every buffer on the way is full
                await asyncio.sleep(0)
                if draining.done():
                    break
            else:
                stalled.set()
                await draining
            sent += 65536
        stalled.set()

    async with bridged(tmp_path, flood) as opened:
        _, writer = await opened.pipe()
        await stalled.wait()
        writer.close()
    assert sent < 16 * 1024 * 1024


@pytest.mark.parametrize("after", [0, 1, 100_000])
async def test_an_endpoint_that_breaks_ends_the_pipe(tmp_path: Path, after: int) -> None:
    async def reset(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(bytes(after))
        await writer.drain()
        await reader.readexactly(1)
        writer.transport.abort()

    async with bridged(tmp_path, reset) as opened:
        for _ in range(CONNECTIONS_MAX + 1):
            reader, writer = await opened.pipe()
            await reader.readexactly(after)
            writer.write(b"x" * 1000)
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()


async def test_an_enclave_that_breaks_ends_the_pipe(tmp_path: Path) -> None:
    ended: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(ConnectionError):
            ended.put_nowait(await reader.read())

    async with bridged(tmp_path, listen) as opened:
        for _ in range(CONNECTIONS_MAX + 1):
            _, writer = await opened.pipe()
            writer.write(b"half of it")
            await writer.drain()
            writer.transport.abort()
            assert await ended.get() in {b"half of it", b""}


async def test_a_pipe_in_which_nothing_moves_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pinaivu_host.kms_bridge.IDLE_LIMIT_S", 0.05)
    caplog.set_level(logging.INFO)

    async def wait(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read()

    async with bridged(tmp_path, wait) as opened:
        reader, writer = await opened.pipe()
        assert await reader.read() == b""
        await logged(caplog, "KMS request carried")
        writer.close()
    assert kv(caplog, "KMS request carried")["end"] == "idle"


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "kms.us-east-1.amazonaws.com"},
        {"region": "us-east-1"},
        {"endpoint": "kms.us-east-1.amazonaws.com", "region": "us-east-1"},
        {"endpoint": "sts.eu-west-1.amazonaws.com"},
        {"endpoint": "kms.eu-west-1.amazonaws.com."},
    ],
    ids=str,
)
async def test_another_endpoint_than_that_of_the_key_is_not_allowed(tmp_path: Path, change: dict[str, str]) -> None:
    async def never(reader: StreamReader, writer: StreamWriter) -> None:
        raise AssertionError("dialled")

    asked = []
    async with bridged(tmp_path, never, lambda: asked.append(1)) as opened:
        answer, (reader, writer) = await opened.ask(msgspec.structs.replace(REQUEST, **change))
        assert isinstance(answer, BridgeRefusal)
        assert answer.code == "endpoint_not_allowed"
        assert await reader.read() == b""
        writer.close()
    assert asked == []


async def test_an_endpoint_that_cannot_be_reached_is_said_before_tls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = Bridged(tmp_path, ("127.0.0.1", free_port()))
    opened.bridge.start()
    answer, (reader, writer) = await opened.ask()
    assert isinstance(answer, BridgeRefusal)
    assert answer.code == "endpoint_unreachable"
    assert await reader.read() == b""
    writer.close()
    await opened.bridge.stop()
    assert kv(caplog, "KMS bridge refused a request") == {"code": answer.code, "detail": answer.detail}
    assert "Connection refused" in answer.detail


async def test_without_credentials_the_enclave_is_told_and_nobody_is_dialled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def never(reader: StreamReader, writer: StreamWriter) -> None:
        raise AssertionError("dialled")

    async with bridged(tmp_path, never, lambda: None) as opened:
        answer, (_, writer) = await opened.ask()
        assert isinstance(answer, BridgeRefusal)
        assert answer.code == "no_credentials"
        writer.close()
    assert "give the instance a role" in kv(caplog, "KMS bridge refused a request")["detail"]


@pytest.mark.parametrize("token", ["broken\n", "\u20ac", "x" * 9000])
async def test_a_token_that_no_header_can_carry_is_no_credential(tmp_path: Path, token: str) -> None:
    async with bridged(tmp_path, echo, lambda: Credentials("A", "S", token)) as opened:
        answer, (_, writer) = await opened.ask()
        assert isinstance(answer, BridgeRefusal)
        assert (answer.code, token in answer.detail) == ("no_credentials", False)
        writer.close()


TOO_LONG = {
    "2 GiB": (2**31).to_bytes(4),
    "4 GiB": b"\xff" * 4,
    "one byte too long": (MAX_BRIDGE_FRAME_BYTES + 1).to_bytes(4) + bytes(MAX_BRIDGE_FRAME_BYTES + 1),
    "http": b"GET / HTTP/1.1\r\n\r\n",
}
NO_REQUEST = {
    "garbage": frame(b"\xc1\xc1", max_bytes=2),
    "empty": bytes(4),
    "an unknown field": frame(msgspec.msgpack.encode({**msgspec.to_builtins(REQUEST), "body": ""}), max_bytes=1000),
    "another target": frame(
        msgspec.msgpack.encode({**msgspec.to_builtins(REQUEST), "target": "TrentService.Encrypt"}), max_bytes=1000
    ),
    "a host with a line break": frame(
        msgspec.msgpack.encode({**msgspec.to_builtins(REQUEST), "endpoint": f"{REQUEST.endpoint}\r\n"}), max_bytes=1000
    ),
    "not text": frame(b"\x81\xa8endpoint\xa1\xff", max_bytes=1000),
}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        *(pytest.param(sent, "announced a frame of", id=name) for name, sent in TOO_LONG.items()),
        *(pytest.param(sent, "sent what is no SignRequest", id=name) for name, sent in NO_REQUEST.items()),
    ],
)
async def test_what_is_no_request_ends_the_connection_and_nothing_else(
    tmp_path: Path, sent: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with bridged(tmp_path) as opened:
        for _ in range(CONNECTIONS_MAX + 1):
            reader, writer = await opened.dial()
            writer.write(sent)
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        (await opened.pipe())[1].close()
    errors = [getattr(record, "kv", {})["error"] for record in caplog.records]
    assert [error.startswith(f"enclave: {said}") for error in errors] == [True] * (CONNECTIONS_MAX + 1)


@pytest.mark.parametrize("length", range(0, 120, 7))
async def test_a_request_cut_short_ends_the_connection(tmp_path: Path, length: int) -> None:
    whole = frame(msgspec.msgpack.encode(REQUEST), max_bytes=1000)
    assert length < len(whole)
    async with bridged(tmp_path) as opened:
        reader, writer = await opened.dial()
        writer.write(whole[:length])
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        (await opened.pipe())[1].close()


async def test_slow_callers_are_given_up_and_others_get_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinaivu_host.kms_bridge.REQUEST_LIMIT_S", 0.05)
    async with bridged(tmp_path) as opened:
        slow = [await opened.dial() for _ in range(CONNECTIONS_MAX)]
        for _, writer in slow:
            writer.write(b"\0")
        (await opened.pipe())[1].close()
        for reader, writer in slow:
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()


async def test_more_connections_than_are_served_at_once_wait(tmp_path: Path) -> None:
    at_once = most = 0
    proceed = asyncio.Event()

    async def count(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await proceed.wait()
        at_once -= 1

    async with bridged(tmp_path, count) as opened:
        first = [await opened.pipe() for _ in range(CONNECTIONS_MAX)]
        waiting = [await opened.dial() for _ in range(3)]
        for _, writer in waiting:
            writer.write(frame(msgspec.msgpack.encode(REQUEST), max_bytes=MAX_BRIDGE_FRAME_BYTES))
        for _ in range(1000):  # turns of the loop in which they could be served
            await asyncio.sleep(0)
        assert at_once == CONNECTIONS_MAX
        proceed.set()
        for _, writer in first:
            writer.close()
        for reader, writer in waiting:
            assert isinstance(await read_answer(reader), SignedHeaders)
            writer.close()
    assert most == CONNECTIONS_MAX


def open_descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


async def test_a_thousand_connections_are_served_in_turn_and_leave_nothing_behind(tmp_path: Path) -> None:
    before = open_descriptors()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 1024

    async def use(opened: Bridged) -> None:
        reader, writer = await opened.pipe()
        writer.write(b"x")
        writer.write_eof()
        assert await reader.read() == b"x and good-bye"
        writer.close()

    async with bridged(tmp_path) as opened:
        gate = asyncio.Semaphore(50)

        async def in_turn() -> None:
            async with gate:
                await use(opened)

        await asyncio.gather(*(in_turn() for _ in range(1000)))
    assert open_descriptors() <= before + 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda raw: frame(raw, max_bytes=1000))))
def test_any_bytes_are_a_request_or_one_kind_of_error(sent: bytes) -> None:
    async def read() -> None:
        reader = StreamReader()
        reader.feed_data(sent)
        reader.feed_eof()
        with suppress(PeerError, asyncio.IncompleteReadError):
            assert (await read_request(reader)).region

    asyncio.run(read())


def test_on_vsock_only_our_enclave_is_answered() -> None:
    assert not is_stranger((16, 1234), 16)
    assert is_stranger((17, 1234), 16)
    assert is_stranger((1, 1234), 16)
    assert not is_stranger("", None)
    assert not is_stranger((17, 1234), None)


async def test_an_address_that_is_taken_is_the_operators_mistake(tmp_path: Path) -> None:
    async with bridged(tmp_path):
        with pytest.raises(CallerError, match="cannot listen at"):
            Bridged(tmp_path, ("127.0.0.1", 1))
