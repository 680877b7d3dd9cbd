"""The status file: whole, its owner's alone, and strictly read."""

import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.node.test_reporting import report_heard

from pinaivu_node.status import FILE, STALE_MS, EngineStatus, NodeStatus, StatusFile, beginning, read_status
from pinaivu_shared.errors import UnreadableError

from .market import NODE, NOW_MS

FIRST = beginning(node_id=NODE.node_id, operator="alice", gateway="ws://g", agent="a", now_ms=NOW_MS)
WHOLE = msgspec.structs.replace(FIRST, engines=(EngineStatus("echo", ("m",), {"m": "why"}),), heard=report_heard())
RAW = msgspec.json.encode(WHOLE)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    for status in (FIRST, WHOLE):
        StatusFile(tmp_path).write(status)
        assert read_status(tmp_path) == status
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_a_disk_that_cannot_be_written_costs_the_status_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    StatusFile(tmp_path / "absent").write(WHOLE)
    assert caplog.messages == ["status not written"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, RAW.replace(b'"version":1', b'"version":2'), RAW[:-1], RAW + b"x",
     RAW.replace(b'"wins":3', b'"wins":-3'), RAW.replace(b'"state":"connecting"', b'"state":"dancing"')],
)  # fmt: skip
def test_what_is_no_status_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UnreadableError):
        read_status(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(RAW) - 1), st.integers(0, 255))
@example(0, 0xFF)
def test_any_bytes_are_a_status_or_unreadable(tmp_path: Path, place: int, byte: int) -> None:
    (tmp_path / FILE).write_bytes(RAW[:place] + bytes([byte]) + RAW[place + 1 :])
    try:
        assert isinstance(read_status(tmp_path), NodeStatus)
    except UnreadableError:
        return


def test_a_running_node_is_stale_once_it_has_not_written_for_long() -> None:
    assert not FIRST.is_stale(NOW_MS + STALE_MS)
    assert FIRST.is_stale(NOW_MS + STALE_MS + 1)
    stopped = msgspec.structs.replace(FIRST, state="stopped")
    assert not stopped.is_stale(NOW_MS + STALE_MS + 1)
