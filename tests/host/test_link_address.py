"""Addresses of enclave and host: what is read, what is refused, and how a multiplexer is asked for a port."""

import asyncio
import socket
import stat
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pinaivu_host.link_address import LinkAddress, open_link, parse_address
from pinaivu_host.listening_address import listen_at, parse_listening_address, stop_listening
from pinaivu_host.streams import aborting, open_stream
from pinaivu_shared.errors import CallerError

pytestmark = pytest.mark.anyio
Behaviour = Callable[[StreamReader, StreamWriter], Awaitable[None]]


@pytest.mark.parametrize(
    ("text", "family", "place", "guest_port", "cid"),
    [
        ("unix:/run/enclave.sock", socket.AF_UNIX, "/run/enclave.sock", None, None),
        ("unix:relative:with:colons", socket.AF_UNIX, "relative:with:colons", None, None),
        ("vsock:16:5000", socket.AF_VSOCK, (16, 5000), None, 16),
        ("vsock:4294967294:0", socket.AF_VSOCK, (4294967294, 0), None, 4294967294),
        ("hybrid:/run/vm.vsock:5000", socket.AF_UNIX, "/run/vm.vsock", 5000, None),
        ("hybrid:C:/odd:7", socket.AF_UNIX, "C:/odd", 7, None),
    ],
)
def test_an_enclave_address_has_one_of_three_forms(
    text: str, family: int, place: object, guest_port: int | None, cid: int | None
) -> None:
    address = parse_address(text)
    assert (address.text, address.family, address.place, address.guest_port) == (text, family, place, guest_port)
    assert address.cid == cid


@pytest.mark.parametrize(
    "text",
    [
        *("", "unix", "unix:", "vsock:16", "vsock:16:", "vsock::5000", "vsock:a:b", "vsock:-1:5000", "vsock:16:5000:1"),
        *("vsock:4294967295:5000", "vsock:16:4294967295", "vsock:16:99999999999", "vsock:٣:5000", "vsock:16: 5000"),
        *(
            "hybrid:",
            "hybrid:/run/x",
            "hybrid:/run/x:",
            "hybrid::5000",
            "hybrid:/run/x:port",
            "hybrid:/run/x:4294967295",
        ),
        *("tcp:1:2", "UNIX:/run/x", "/run/x"),
    ],
)
def test_anything_else_is_no_enclave_address(text: str) -> None:
    with pytest.raises(CallerError, match="no enclave address"):
        parse_address(text)


@given(st.text())
@example("vsock:\x00:1")
def test_any_text_is_an_address_or_a_callers_error(text: str) -> None:
    for parse in (parse_address, parse_listening_address):
        with suppress(CallerError):
            assert parse(text).text == text


def test_a_host_listens_at_one_of_two_forms() -> None:
    assert parse_listening_address("unix:/run/kms.sock").place == "/run/kms.sock"
    assert parse_listening_address("vsock:5001").place == (socket.VMADDR_CID_ANY, 5001)


@pytest.mark.parametrize("text", ["", "unix:", "vsock:", "vsock:3:5001", "vsock:x", "vsock:4294967295", "5001"])
def test_anything_else_is_no_address_to_listen_at(text: str) -> None:
    with pytest.raises(CallerError, match="no address to listen at"):
        parse_listening_address(text)


def test_a_socket_left_behind_is_replaced_and_belongs_to_this_user_only(tmp_path: Path) -> None:
    path = tmp_path / "kms.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    address = parse_listening_address(f"unix:{path}")
    listener = listen_at(address)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    stop_listening(listener, address)
    assert not path.exists()


def test_nobody_is_pushed_aside(tmp_path: Path) -> None:
    address = parse_listening_address(f"unix:{tmp_path / 'kms.sock'}")
    first = listen_at(address)
    with pytest.raises(CallerError, match="Address already in use"):
        listen_at(address)
    stop_listening(first, address)
    (tmp_path / "kms.sock").write_text("a file of somebody's")
    with pytest.raises(CallerError, match="Address already in use"):
        listen_at(address)
    assert (tmp_path / "kms.sock").read_text() == "a file of somebody's"


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_VSOCK])
async def test_a_vsock_is_carried_like_any_stream(family: int) -> None:
    """No vsock here: a Unix socket said to be one is refused by uvloop in the same way, for it cannot TCP_NODELAY."""
    ours, theirs = socket.socketpair()
    inner = await open_stream(socket.socket(family, socket.SOCK_STREAM, fileno=ours.detach()))
    outer = await open_stream(theirs)
    with aborting(inner), aborting(outer):
        inner[1].write(b"question")
        inner[1].write_eof()
        assert await outer[0].read() == b"question"
        outer[1].write(b"answer")
        outer[1].write_eof()
        assert await inner[0].read() == b"answer"


@asynccontextmanager
async def multiplexer(path: Path, behaviour: Behaviour) -> AsyncIterator[LinkAddress]:
    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        await behaviour(reader, writer)
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield parse_address(f"hybrid:{path}:5000")


async def test_a_multiplexer_is_asked_for_the_port_and_the_rest_is_the_stream(tmp_path: Path) -> None:
    async def let_through(reader: StreamReader, writer: StreamWriter) -> None:
        assert await reader.readline() == b"CONNECT 5000\n"
        writer.write(b"OK 1073741824\nfirst bytes of the guest, ")
        writer.write(await reader.readline())

    async with multiplexer(tmp_path / "vm", let_through) as address:
        reader, writer = await open_link(address)
        writer.write(b"echoed\n")
        assert await reader.read() == b"first bytes of the guest, echoed\n"
        writer.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", ConnectionRefusedError),
        (b"OK 50", ConnectionRefusedError),
        (b"OK\n", ConnectionAbortedError),
        (b"OK 5000 \n", ConnectionAbortedError),
        (b"ok 5000\n", ConnectionAbortedError),
        (b"\n", ConnectionAbortedError),
        (b"ERR no such port\n", ConnectionAbortedError),
        (b"x" * 100_000, ConnectionAbortedError),
    ],
)
async def test_another_answer_means_that_nobody_listens(tmp_path: Path, answer: bytes, error: type[OSError]) -> None:
    async def refuse(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)

    async with multiplexer(tmp_path / "vm", refuse) as address:
        with pytest.raises(error):
            await open_link(address)


async def test_a_multiplexer_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    for text in (f"hybrid:{tmp_path}/vm:5000", f"unix:{tmp_path}/vm"):
        with pytest.raises(OSError, match="No such file"):
            await open_link(parse_address(text))
