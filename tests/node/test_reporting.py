"""How a node learns how it stands: it asks, believes only the enclave of its session, and writes down what it heard."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric import ec
from tests.node.engines.scripted import chunk, event, head, serving

from pinaivu_node.reporting import REPORT_SECONDS, Reporting
from pinaivu_node.status import PAUSE_SECONDS, WRITE_SECONDS, EngineStatus, HeardReport, NodeStatus, beginning
from pinaivu_node.status_board import StatusBoard
from pinaivu_shared.canonical import encode
from pinaivu_shared.signed import Signed, sign_as_enclave
from pinaivu_shared.terms import NodeReport
from pinaivu_shared.wire.node import FromNode, Report, RequestReport

from .market import ALICE, MODEL, NODE, NOW_MS, Counter
from .running import Network, network

pytestmark = pytest.mark.trio
ANSWER = [
    head("200 OK", "text/event-stream") + event(chunk("Hi")) + event(chunk("", finish="stop")) + b"data: [DONE]\n\n"
]


def report_of(session: str, /, **changes: Any) -> NodeReport:
    report = NodeReport(
        node_id=NODE.node_id,
        session=session,
        reported_ms=NOW_MS,
        quality_bps=7500,
        slots=4,
        suspended_until_ms=0,
        changes=(),
        quotes=(),
        wins=3,
        losses=1,
        loss_margin_bps=250,
        earned=42,
        payable=7,
        paid_out=1,
    )
    return msgspec.structs.replace(report, **changes)


async def tell(counter: Counter, **changes: Any) -> NodeReport:
    """Answer the question that the gateway was asked at some time."""
    report = report_of(counter.gateway.session, **changes)
    await counter.gateway.send(Report(sign_as_enclave("node-report", encode(report), counter.gateway.enclave.receipt)))
    return report


async def shown(running: Network, is_it: Callable[[NodeStatus], bool]) -> NodeStatus:
    """The first status that is so; the clock goes on while there is none."""
    while True:
        for status in running.shown:
            if is_it(status):
                return status
        await trio.lowlevel.checkpoint()


def heard(status: NodeStatus, wins: int = 3) -> bool:
    return status.heard is not None and status.heard.report.wins == wins


async def test_a_verified_report_is_in_the_status() -> None:
    async with network() as running:
        counter = await running.open()
        report = await tell(counter)
        status = await shown(running, heard)
        assert (status.state, status.session) == ("connected", counter.gateway.session)
        assert (status.node_id, status.operator, status.gateway) == (NODE.node_id, ALICE.id, running.shown[0].gateway)
        assert [engine.ready for engine in status.engines] == [(MODEL,)]
        assert status.heard is not None
        assert status.heard.report == report


async def until_asked(counter: Counter, times: int) -> None:
    """Return once the session has put so many questions, whatever else comes between them."""
    while counter.gateway.asked < times:
        counter.gateway.asked += isinstance(await counter.gateway.any_at_all(), RequestReport)


async def a_second_later(clock: trio.testing.MockClock) -> None:
    await trio.testing.wait_all_tasks_blocked(0)
    clock.jump(PAUSE_SECONDS)


async def test_it_asks_at_first_once_a_quote_stands_and_after_a_job(mock_clock: trio.testing.MockClock) -> None:
    async with serving(ANSWER) as engine, network(engine.address) as running:
        counter = await running.open()
        await until_asked(counter, 1)
        while not running.kept:
            await trio.lowlevel.checkpoint()
        await a_second_later(mock_clock)
        await until_asked(counter, 2)
        await a_second_later(mock_clock)
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        await counter.outcome()
        await a_second_later(mock_clock)
        await until_asked(counter, 3)


OTHER_KEY = ec.derive_private_key(8, ec.SECP256R1())
LIES: list[tuple[str, dict[str, Any], str, ec.EllipticCurvePrivateKey | None]] = [
    ("of another session", {"session": "ses_" + "9" * 32}, "node-report", None),
    ("of another node", {"node_id": "node_" + "0" * 32}, "node-report", None),
    ("by another key", {}, "node-report", OTHER_KEY),
    ("signed as something else", {}, "registered", None),
]


@pytest.mark.parametrize(("changes", "kind", "key"), [row[1:] for row in LIES], ids=[row[0] for row in LIES])
async def test_a_report_that_is_not_the_enclaves_about_this_node_ends_the_session(
    changes: dict[str, Any], kind: Any, key: ec.EllipticCurvePrivateKey | None
) -> None:
    async with network() as running:
        counter = await running.open()
        report = encode(report_of(counter.gateway.session, **changes))
        await counter.gateway.send(Report(sign_as_enclave(kind, report, key or counter.gateway.enclave.receipt)))
        again = await running.open()
        assert again.gateway.session != counter.gateway.session
        assert not any(status.heard for status in running.shown)


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff"])
async def test_a_signed_report_of_another_shape_ends_the_session(payload: bytes) -> None:
    async with network() as running:
        counter = await running.open()
        key = counter.gateway.enclave.receipt
        await counter.gateway.send(Report(sign_as_enclave("node-report", payload, key)))
        await running.open()


async def test_a_lost_connection_is_in_the_status_with_its_reason() -> None:
    async with network() as running:
        counter = await running.open()
        await counter.gateway.send(Report(Signed(b"", b"")))
        status = await shown(running, lambda status: bool(status.detail))
        assert status.state in {"waiting", "connecting"}
        assert status.session == ""
        assert "node-report signature" in status.detail
        await running.open()
        assert (await shown(running, lambda found: found.since_ms > 0 and found.state == "connected")).detail == ""


async def test_a_node_that_has_left_says_so() -> None:
    async with network() as running:
        await running.open()
        running.agent.drain()
        await running.left.wait()
        assert running.shown[-1].state == "stopped"
        assert (running.shown[-1].session, running.shown[-1].jobs_running) == ("", 0)


class Questions:
    """When a `Reporting` asked, on a clock that jumps; where it sends to can be closed."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.closed = False
        unused: Any = None
        self.reporting = Reporting(unused, NODE, send=self.send, hear=lambda _: None)

    async def send(self, message: FromNode) -> None:
        if self.closed:
            raise trio.ClosedResourceError
        assert message == RequestReport()
        self.times.append(trio.current_time())


async def test_it_asks_now_and_then_and_soon_after_an_occasion(autojump_clock: trio.testing.MockClock) -> None:
    questions = Questions()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(questions.reporting.ask)
        await trio.sleep(2 * REPORT_SECONDS + 3)
        questions.reporting.something_happened()
        await trio.sleep(REPORT_SECONDS - 3)
        nursery.cancel_scope.cancel()
    assert questions.times == [0, REPORT_SECONDS, 2 * REPORT_SECONDS, 2 * REPORT_SECONDS + 3 + PAUSE_SECONDS]


async def test_many_occasions_are_no_reason_to_ask_more_than_once_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    questions = Questions()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(questions.reporting.ask)
        for _ in range(50):
            questions.reporting.something_happened()
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert 4 <= len(questions.times) <= 5
    pauses = [later - earlier for earlier, later in zip(questions.times, questions.times[1:], strict=False)]
    assert min(pauses) >= PAUSE_SECONDS


async def test_it_stops_asking_once_the_session_is_over(autojump_clock: trio.testing.MockClock) -> None:
    questions = Questions()
    questions.closed = True
    await questions.reporting.ask()


class Board(StatusBoard):
    """A board of a node with one engine, and what it wrote, with the time."""

    def __init__(self) -> None:
        self.written: list[tuple[float, NodeStatus]] = []
        first = beginning(node_id=NODE.node_id, operator="alice", gateway="ws://g", agent="a", now_ms=0)
        engines = (EngineStatus("echo", (MODEL,)),)
        super().__init__(first, engines=lambda: engines, now_ms=_now_ms, write=self._take)

    def _take(self, status: NodeStatus) -> None:
        self.written.append((trio.current_time(), status))

    def times(self) -> list[float]:
        return [time for time, _ in self.written]


def _now_ms() -> int:
    return round(trio.current_time() * 1000)


def report_heard(**changes: Any) -> HeardReport:
    return HeardReport(report_of("ses_" + "1" * 32, **changes), "00", "11" * 32, 5)


async def test_the_status_is_written_now_and_then_and_at_the_end(autojump_clock: trio.testing.MockClock) -> None:
    board = Board()
    with trio.move_on_after(2.5 * WRITE_SECONDS):
        await board.keep()
    assert board.times() == [0, WRITE_SECONDS, 2 * WRITE_SECONDS, 2.5 * WRITE_SECONDS]
    assert [status.state for _, status in board.written] == ["connecting"] * 3 + ["stopped"]
    assert [status.written_ms for _, status in board.written] == [time * 1000 for time in board.times()]


async def test_a_change_is_written_soon_and_many_changes_once_a_second(autojump_clock: trio.testing.MockClock) -> None:
    board = Board()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.keep)
        await trio.sleep(3)
        board.open("ses_" + "1" * 32)
        board.count_jobs(lambda: 2)
        await trio.sleep(0.1)
        for number in range(30):
            board.hear(report_heard(reported_ms=NOW_MS + number, wins=number))
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert board.times()[:3] == [0, 3, 4]
    assert 5 <= len(board.written) <= 7
    state = board.written[1][1]
    assert (state.state, state.since_ms, state.session, state.jobs_running) == ("connected", 3000, "ses_" + "1" * 32, 2)
    last = board.written[-1][1]
    assert last.heard is not None
    assert last.heard.report.wins == 29
    assert (last.state, last.session, last.jobs_running) == ("stopped", "", 0)


async def test_a_report_that_was_overtaken_says_nothing(autojump_clock: trio.testing.MockClock) -> None:
    board = Board()
    board.hear(report_heard(wins=2))
    board.hear(report_heard(wins=1, reported_ms=NOW_MS - 1))
    with trio.move_on_after(0):
        await board.keep()
    (_, status), _ = board.written
    assert status.heard is not None
    assert status.heard.report.wins == 2
    board.hear(report_heard(wins=9, reported_ms=NOW_MS - 1, session="ses_" + "2" * 32))  # an epoch with another clock
    with trio.move_on_after(0):
        await board.keep()
    newest = board.written[-1][1].heard
    assert newest is not None
    assert newest.report.wins == 9


async def test_a_draining_node_keeps_its_session(autojump_clock: trio.testing.MockClock) -> None:
    board = Board()
    board.open("ses_" + "1" * 32)
    board.count_jobs(lambda: 1)
    board.drain()
    with trio.move_on_after(0):
        await board.keep()
    status = board.written[0][1]
    assert (status.state, status.session, status.jobs_running) == ("draining", "ses_" + "1" * 32, 1)
