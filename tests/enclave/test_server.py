"""The enclave's shell over a socket: boot, order of messages, bounds, and hosts that break the protocol."""

import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from tests.enclave.market import MODEL, ORIGIN, START_MS, make_platform

from pinaivu_enclave.clock import ClockTamperedError
from pinaivu_enclave.server import DETAIL_CHARACTERS_MAX, MAX_CONNECTIONS, EnclaveServer
from pinaivu_shared.framing import FrameReader, frame
from pinaivu_shared.signed import Signed
from pinaivu_shared.wire import link, link_boot
from pinaivu_simulator.enclave import listen
from pinaivu_simulator.market import market_configuration

HOST = "0" * 32
CONFIGURATION = market_configuration(ORIGIN, [MODEL])
pytestmark = pytest.mark.trio


class FixedClock:
    """A clock that stands still."""

    now_ms_value = START_MS

    def now_ms(self) -> int:
        return self.now_ms_value

    def check(self) -> int:
        return 0


class HostLink:
    """A host's end of the link, as plain as possible."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.frames = FrameReader("enclave", max_bytes=link.MAX_FRAME_BYTES)
        self.received: list[link.Answer] = []
        self.next_id = 0

    async def send(self, command: link.HostCommand) -> int:
        self.next_id += 1
        call = msgspec.msgpack.encode(link.Call(self.next_id, command))
        await self.stream.send_all(frame(call, max_bytes=link.MAX_FRAME_BYTES))
        return self.next_id

    async def call(self, command: link.HostCommand) -> link.Result | link.Push:
        call_id = await self.send(command)
        while True:
            for index, answer in enumerate(self.received):
                if answer.id == call_id:
                    del self.received[index]
                    return answer.result
            data = await self.stream.receive_some(65_536)
            if not data:
                raise trio.BrokenResourceError
            self.received += [msgspec.msgpack.decode(one, type=link.Answer) for one in self.frames.feed(data)]

    async def is_ended(self) -> bool:
        """Whether the enclave closed the connection, in good order or with bytes of ours unread."""
        try:
            return await self.stream.receive_some(10) == b""
        except trio.BrokenResourceError:
            return True

    async def boot(self) -> None:
        assert await self.call(link_boot.Introduce(HOST, link.LINK_PROTOCOL)) == link_boot.Introduction(
            "unconfigured", 0, 0
        )
        await self.call(link_boot.Configure(CONFIGURATION))
        await self.call(link_boot.OpenVault(b""))
        await self.call(link_boot.Resume(()))
        await self.call(link_boot.FinishResume(""))


@asynccontextmanager
async def enclave(folder: Path) -> AsyncIterator[Path]:
    path = folder / "s"
    clock = FixedClock()
    server = EnclaveServer(make_platform(clock.now_ms), clock)
    listener = await listen(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, [listener])
        yield path
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[HostLink]:
    async with await trio.open_unix_socket(str(path)) as stream:
        yield HostLink(stream)


async def test_an_enclave_serves_after_configure_resume_finish(tmp_path: Path) -> None:
    async with enclave(tmp_path) as path, connected(path) as host:
        await host.boot()
        pushed = [one.result for one in host.received]
        assert [one.index for one in pushed if isinstance(one, link.LeafAppended)] == [0, 1]
        await host.call(link.AcknowledgeLeaves(2))
        assert any(isinstance(one.result, link.CheckpointSigned) for one in host.received)


async def test_attestation_answers_the_askers_nonce(tmp_path: Path) -> None:
    async with enclave(tmp_path) as path, connected(path) as host:
        await host.boot()
        answer = await host.call(link.Attest(b"fresh nonce"))
        assert isinstance(answer, link.Attestation)
        assert b"fresh nonce" in answer.document
        assert answer.configuration == CONFIGURATION


@pytest.mark.parametrize(
    "command",
    [link.Attest(b""), link_boot.FinishResume(""), link.EndSession("ses_" + "0" * 32), link.AcknowledgeLeaves(0)],
    ids=lambda command: type(command).__name__,
)
async def test_nothing_is_done_before_boot(tmp_path: Path, command: link.HostCommand) -> None:
    async with enclave(tmp_path) as path, connected(path) as host:
        await host.call(link_boot.Introduce(HOST, link.LINK_PROTOCOL))
        answer = await host.call(command)
        assert isinstance(answer, link.Refused)
        assert answer.code == "illegal_command"


async def test_a_host_introduces_itself_first(tmp_path: Path) -> None:
    async with enclave(tmp_path) as path, connected(path) as host:
        assert isinstance(await host.call(link_boot.Configure(CONFIGURATION)), link.Refused)
        assert isinstance(await host.call(link_boot.Introduce(HOST, 99)), link.Refused)


async def test_the_configuration_is_measured_once(tmp_path: Path) -> None:
    async with enclave(tmp_path) as path, connected(path) as host:
        await host.boot()
        assert isinstance(await host.call(link_boot.Configure(CONFIGURATION)), link.Done)
        other = await host.call(link_boot.Configure(market_configuration(ORIGIN, ["other"])))
        assert isinstance(other, link.Refused)


async def test_a_broken_off_boot_starts_over(tmp_path: Path) -> None:
    async with enclave(tmp_path) as path:
        async with connected(path) as host:
            await host.call(link_boot.Introduce(HOST, link.LINK_PROTOCOL))
            await host.call(link_boot.Configure(CONFIGURATION))
        async with connected(path) as host:
            introduction = await host.call(link_boot.Introduce("1" * 32, link.LINK_PROTOCOL))
            assert isinstance(introduction, link_boot.Introduction)
            assert introduction.phase == "resuming"
            await host.call(link_boot.Configure(CONFIGURATION))
            await host.call(link_boot.OpenVault(b""))
            assert isinstance(await host.call(link_boot.FinishResume("")), link.Done)


async def test_a_newer_host_takes_over_and_gets_what_was_not_acknowledged(tmp_path: Path) -> None:
    async with enclave(tmp_path) as path, connected(path) as older:
        await older.boot()
        async with connected(path) as newer:
            introduction = await newer.call(link_boot.Introduce("1" * 32, link.LINK_PROTOCOL))
            assert introduction == link_boot.Introduction("serving", 2, 0)
            assert [one.result.index for one in newer.received if isinstance(one.result, link.LeafAppended)] == [0, 1]
            assert await older.stream.receive_some(10) == b""


@pytest.mark.parametrize(
    "garbage",
    [
        (2**31).to_bytes(4),
        frame(b"", max_bytes=10),
        frame(b"\xff" * 10, max_bytes=10),
        frame(b"\x91" * 100_000, max_bytes=100_000),
        frame(msgspec.msgpack.encode([1, {"type": "Introduce"}]), max_bytes=100),
        frame(msgspec.msgpack.encode([0, {"type": "Tick"}]), max_bytes=100),
        random.Random(1).randbytes(100_000),
    ],
    ids=["2 GiB frame", "empty frame", "no msgpack", "deep", "missing fields", "unknown command", "noise"],
)
async def test_a_host_that_breaks_the_protocol_loses_its_connection_and_nothing_else(
    tmp_path: Path, garbage: bytes
) -> None:
    async with enclave(tmp_path) as path:
        async with connected(path) as hostile:
            await hostile.stream.send_all(garbage)
            await hostile.stream.send_eof()
            assert await hostile.is_ended()
        async with connected(path) as host:
            await host.boot()


async def test_what_a_host_broke_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with enclave(tmp_path) as path, connected(path) as hostile:
        await hostile.stream.send_all((1 << 31).to_bytes(4))
        assert await hostile.is_ended()
    (record,) = [record for record in caplog.records if record.getMessage() == "host broke the protocol"]
    said = record.kv["detail"]  # type: ignore[attr-defined]  # our own extra
    assert said == f"host: announced a frame of 2147483648 bytes, at most {link.MAX_FRAME_BYTES} are allowed"


async def test_connections_are_bounded(tmp_path: Path) -> None:
    async with enclave(tmp_path) as path, connected(path) as host:
        await host.call(link_boot.Introduce(HOST, link.LINK_PROTOCOL))
        idle = [await trio.open_unix_socket(str(path)) for _ in range(MAX_CONNECTIONS + 5)]
        assert await idle[-1].receive_some(1) == b""
        assert isinstance(await host.call(link_boot.Configure(CONFIGURATION)), link.Done)
        for stream in idle:
            await stream.aclose()


async def test_commands_of_one_host_are_answered_in_order(tmp_path: Path) -> None:
    async with enclave(tmp_path) as path, connected(path) as host:
        await host.boot()
        host.received.clear()
        ids = [await host.send(link.RequestChallenge(bytes([9] * 31 + [number]))) for number in range(50)]
        last = await host.call(link.AcknowledgeLeaves(2))
        assert isinstance(last, link.Done)
        assert [one.id for one in host.received if one.id] == ids


async def test_the_host_that_booted_the_enclave_is_no_new_one_when_its_link_breaks(tmp_path: Path) -> None:
    async with enclave(tmp_path) as path:
        async with connected(path) as host:
            await host.boot()
            challenge = await host.call(link.RequestChallenge(bytes([9] * 32)))
            assert isinstance(challenge, link.ChallengeIssued)
        async with connected(path) as host:
            await host.call(link_boot.Introduce(HOST, link.LINK_PROTOCOL))
            registration = Signed(b"", bytes(64))
            answer = await host.call(link.RegisterNode(challenge.session, registration))
            assert isinstance(answer, link.Refused)
            assert "signature" in answer.detail, "the open challenge of the same host was forgotten"


class TamperedClock(FixedClock):
    """A clock that is found wrong at its first check."""

    def check(self) -> int:
        raise ClockTamperedError(5_000)


async def test_a_wrong_clock_ends_the_enclave(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    clock = TamperedClock()
    with pytest.RaisesGroup(pytest.RaisesExc(ClockTamperedError, match="5000 ms off"), flatten_subgroups=True):
        await EnclaveServer(make_platform(clock.now_ms), clock).serve([await listen(tmp_path / "s")])


async def test_a_host_that_reads_nothing_cannot_keep_its_successor_out(tmp_path: Path) -> None:
    async with enclave(tmp_path) as path, connected(path) as silent:
        await silent.boot()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_and_never_listen, silent)
            await trio.testing.wait_all_tasks_blocked(0.05)
            async with connected(path) as successor:
                with trio.fail_after(60):
                    introduced = await successor.call(link_boot.Introduce("1" * 32, link.LINK_PROTOCOL))
            assert isinstance(introduced, link_boot.Introduction)
            nursery.cancel_scope.cancel()


async def ask_and_never_listen(host: HostLink) -> None:
    """Ask until neither side can send any more."""
    for number in itertools.count():
        await host.send(link.RequestChallenge(number.to_bytes(32)))


async def test_a_refusal_of_something_long_is_short(tmp_path: Path) -> None:
    """What is wrong with a frame may quote it, and an answer must fit a frame as well."""
    order = Signed(b'{"type":"' + b"x" * (link.MAX_FRAME_BYTES - 1000) + b'"}', bytes(64))
    async with enclave(tmp_path) as path, connected(path) as host:
        await host.boot()
        refused = await host.call(link.RecordOrder(order))
        assert isinstance(refused, link.Refused)
        assert len(refused.detail) <= DETAIL_CHARACTERS_MAX
        assert await host.call(link.AcknowledgeLeaves(2)) == link.Done()
