"""What the KMS bridge signs: requests of our enclave to the endpoint of its key, and nothing else."""

import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.host.bridged import REQUEST, Bridged, bridged, echo, kv
from tests.host.program import free_port

from pinaivu_host.kms_bridge import CONNECTIONS_MAX, is_stranger, read_request
from pinaivu_shared.errors import CallerError, PeerError
from pinaivu_shared.framing import frame
from pinaivu_shared.wire.kms import MAX_BRIDGE_FRAME_BYTES, BridgeRefusal

pytestmark = pytest.mark.anyio


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
