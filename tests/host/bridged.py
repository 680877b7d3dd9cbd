"""A KMS bridge on a Unix socket, and how the enclave uses it.

The endpoint is a TCP server that answers as the test says. What TLS and KMS make of the bytes is the enclave's chapter.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.credentials import Credentials

from pinaivu_host.kms_bridge import KmsBridge
from pinaivu_host.link_address import open_link, parse_address
from pinaivu_host.listening_address import parse_listening_address
from pinaivu_host.streams import Stream, aborting
from pinaivu_shared.configuration import KmsTerms
from pinaivu_shared.framing import frame
from pinaivu_shared.wire.kms import MAX_BRIDGE_FRAME_BYTES, BridgeAnswer, SignedHeaders, SignRequest

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
