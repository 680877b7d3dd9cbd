"""`pinaivu node status`: what it shows of the node's file, to people and to programs, and how it exits."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from tests.node.operator import HEARD, REQUEST, run, status

from pinaivu_node.status import STALE_MS, EngineStatus, NodeStatus, StatusFile
from pinaivu_node.status_view import span, status_view
from pinaivu_shared.report import percent
from pinaivu_shared.terms import QualityChange

from .market import MODEL, NODE, NOW_MS


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: NOW_MS * 1_000_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a node that runs."""
    StatusFile(tmp_path).write(status())
    return tmp_path


def shown(found: NodeStatus) -> str:
    console = Console(width=160, highlight=False)
    with console.capture() as capture:
        console.print(status_view(found, now_ms=NOW_MS))
    return capture.get()


def test_the_status_says_how_the_node_stands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "--data-dir", folder) == 0
    found = capsys.readouterr()
    assert found.err == ""
    for text in (
        *(
            NODE.node_id,
            "alice",
            "ws://gateway.test",
            "connected for 0 s",
            f"echo: {MODEL}",
            "75.00 %",
            "4 jobs at once",
        ),
        *("3 won, 1 lost by 2.50 % on average", "0.000042 USDC", "0.000007 USDC", "0.000001 USDC", "20000", "60000"),
        *("1 min 1 s", REQUEST, "answered", "the engine gave no token counts", "90.00 %", "73.44 %"),
    ):
        assert text in found.out, text
    assert "suspended" not in found.out


def test_a_suspension_is_shown_with_the_way_back() -> None:
    report = msgspec.structs.replace(HEARD.report, suspended_until_ms=NOW_MS + 3_700_000)
    text = " ".join(shown(status(heard=msgspec.structs.replace(HEARD, report=report))).split())
    assert "suspended for another 1 h 1 min. It is in no auction until then." in text
    assert "begins again on probation, at no more than half the prior" in text


def test_a_node_without_report_engine_or_connection_says_so() -> None:
    text = shown(
        status(heard=None, state="waiting", session="", detail="gateway: gone", engines=(EngineStatus("e", ()),))
    )
    for said in ("waiting for 0 s: gateway: gone", "e: not ready", "has not reported yet"):
        assert said in text


def test_a_model_that_is_served_and_not_quoted_is_shown_with_the_reason() -> None:
    capabilities = {MODEL: ("chat", "tools"), "m": ("embeddings",)}
    engines = (
        EngineStatus("echo", (MODEL, "m"), {"m": "the market does not list it"}, capabilities),
        EngineStatus("e", ()),
    )
    lines = [line.split() for line in shown(status(engines=engines)).splitlines()]
    place = lines.index(["engine", "echo:", f"{MODEL},", "m"])
    assert [" ".join(line) for line in lines[place + 1 : place + 5]] == [
        f"{MODEL} can do chat, tools",
        "m can do embeddings",
        "m is not quoted: the market does not list it",
        "engine e: not ready",
    ]


def test_a_quote_is_shown_with_the_context_that_it_counts_for() -> None:
    lines = [line.split() for line in shown(status()).replace("┃", " ").replace("│", " ").splitlines()]
    headings = lines[lines.index(["quotes,", "in", "micro-USDC", "per", "million", "tokens"]) + 2]
    place = headings.index("context")
    assert [line[place] for line in lines if line[:1] == [MODEL]] == ["8192"]


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "stopped", "session": ""},
        {"state": "waiting", "session": ""},
        {"session": "ses_" + "2" * 32},
    ],
    ids=["stopped", "waiting", "in another session"],
)
def test_no_quote_is_shown_of_a_session_that_has_ended(changes: dict[str, Any]) -> None:
    assert "20000" in shown(status())
    text = shown(status(**changes))
    assert "no quote stands" in text
    assert "20000" not in text
    assert "75.00 %" in text, "the rest of the report stays true"


def test_what_peers_wrote_cannot_draw_on_the_terminal() -> None:
    report = msgspec.structs.replace(
        HEARD.report, changes=(QualityChange(request_id=REQUEST, reason="[red]\x1b[2J", sample_bps=0, quality_bps=1),)
    )
    hostile = status(detail="[bold]\x1b[31m\nstate  fine", heard=msgspec.structs.replace(HEARD, report=report))
    text = shown(hostile)
    assert "\x1b" not in text
    assert r"[bold]\x1b[31m\nstate  fine" in text
    assert r"[red]\x1b[2J" in text


def test_machines_get_the_status_as_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "--data-dir", folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found.pop("running") is True
    assert msgspec.convert(found, NodeStatus) == status()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": "stopped", "written_ms": NOW_MS - 5000}, "the node was stopped 5 s ago"),
        ({"written_ms": NOW_MS - STALE_MS - 1}, "nothing was written for 30 s"),
    ],
)
def test_a_node_that_does_not_run_exits_1_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], why: str
) -> None:
    StatusFile(tmp_path).write(status(**changes))
    assert run("status", "--data-dir", tmp_path) == 1
    found = capsys.readouterr()
    assert why in found.err
    assert NODE.node_id in found.out
    assert run("status", "--data-dir", tmp_path, "--json") == 1
    assert json.loads(capsys.readouterr().out)["running"] is False


@pytest.mark.parametrize("content", [None, b"{}"])
def test_a_folder_without_a_readable_status_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "status.json").write_bytes(content)
    assert run("status", "--data-dir", tmp_path) == 2
    found = capsys.readouterr()
    assert (found.out, "status.json" in found.err) == ("", True)


def test_watching_needs_a_terminal_or_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "--data-dir", folder, "--watch") == 2
    assert "--watch --json" in capsys.readouterr().err


def test_watching_with_json_prints_each_new_status_once(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps() -> Iterator[None]:
        yield
        StatusFile(folder).write(status(jobs_running=3))
        yield
        yield
        raise KeyboardInterrupt

    step = steps()
    monkeypatch.setattr(time, "sleep", lambda _: next(step))
    assert run("status", "--data-dir", folder, "--watch", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["jobs_running"] for line in lines] == [0, 3]


def test_watching_draws_until_ctrl_c(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert run("status", "--data-dir", folder, "--watch") == 0
    assert NODE.node_id in capsys.readouterr().out


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(-1, "0 s"), (999, "0 s"), (59_999, "59 s"), (60_000, "1 min 0 s"), (3_599_000, "59 min 59 s"),
     (3_600_000, "1 h 0 min"), (86_399_000, "23 h 59 min"), (90_000_000, "1 d 1 h")],
)  # fmt: skip
def test_spans_are_in_their_largest_two_units(milliseconds: int, text: str) -> None:
    assert span(milliseconds) == text


def test_basis_points_are_percentages() -> None:
    assert [percent(bps) for bps in (0, 5, 10_000)] == ["0.00 %", "0.05 %", "100.00 %"]
