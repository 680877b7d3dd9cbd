"""`pinaivu node earnings` and `statement`: what is signed, what the gateway merely says, and what is verified."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.node.operator import BUNDLE, REQUEST, STATED, Pages, run, status

from pinaivu_node.status import StatusFile
from pinaivu_shared.money import format_usdc
from pinaivu_shared.wire.node import NODE_PATH

from .market import NOW_MS


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: NOW_MS * 1_000_000)


@pytest.fixture
def pages() -> Iterator[Pages]:
    with Pages().serving() as found:
        yield found


@pytest.fixture
def seller(tmp_path: Path, pages: Pages) -> Path:
    """The folder of the node whose statement it is, which was connected to the gateway of `pages`."""
    key = STATED.node.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "node.key").write_bytes(key)
    (tmp_path / "node.key").chmod(0o600)
    StatusFile(tmp_path).write(status(gateway=pages.url.replace("http:", "ws:") + NODE_PATH))
    (tmp_path / "trust.json").write_text(json.dumps(STATED.trust))
    return tmp_path


def statement(seller: Path, name: str | Path, *arguments: str | Path) -> int:
    return run("statement", name, "--data-dir", seller, "--trust", seller / "trust.json", *arguments)


def test_earnings_are_shown_as_signed_and_as_the_gateway_says(seller: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("earnings", "--data-dir", seller) == 0
    found = capsys.readouterr()
    rows = [line.split("  ") for line in found.out.splitlines()]
    amounts = {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows}
    assert amounts["earned"] == ["0.000042 USDC", "0.000041 USDC"]
    assert amounts["payable"] == ["0.000007 USDC", "0.000007 USDC"]
    assert amounts["paid out"] == ["0.000001 USDC", "0.000002 USDC"]
    assert amounts["stated"] == ["-", "0.000009 USDC"]
    assert "signed report: by the enclave, verified by the node, heard 0 s ago" in found.out
    assert "gateway: signed by nobody" in found.out
    assert "suspended" not in found.out


def test_machines_are_told_which_earnings_are_signed(seller: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("earnings", "--data-dir", seller, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["node_id"] == STATED.node.node_id
    assert found["signed"] == {
        "earned": "0.000042 USDC",
        "payable": "0.000007 USDC",
        "paid_out": "0.000001 USDC",
        "reported_ms": NOW_MS,
        "heard_ms": NOW_MS,
    }
    assert found["gateway"]["earned"] == "0.000041 USDC"
    assert found["suspension"] is None


def test_earnings_without_a_report_are_the_gateways_alone(
    seller: Path, pages: Pages, capsys: pytest.CaptureFixture[str]
) -> None:
    (seller / "status.json").unlink()
    assert run("earnings", "--data-dir", seller) == 2
    assert "--gateway" in capsys.readouterr().err
    assert run("earnings", "--data-dir", seller, "--gateway", pages.url) == 0
    assert "the node has heard none yet" in capsys.readouterr().out
    assert run("earnings", "--data-dir", seller, "--gateway", pages.url, "--json") == 0
    assert json.loads(capsys.readouterr().out)["signed"] is None


def test_earnings_say_why_the_node_is_suspended(seller: Path, pages: Pages, capsys: pytest.CaptureFixture[str]) -> None:
    until_ms = NOW_MS + 120_000
    suspended = {"index": 4, "reason": "usage_absurd", "request_id": REQUEST, "suspended_ms": 1, "until_ms": until_ms}
    pages.set_account(suspension=suspended)
    assert run("earnings", "--data-dir", seller) == 0
    assert f"suspended for another 2 min 0 s, for {REQUEST}: claimed what the award" in capsys.readouterr().out


def test_a_folder_of_no_node_has_no_earnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("earnings", "--data-dir", tmp_path, "--gateway", "http://127.0.0.1:9") == 2
    assert "no node has run on this folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [], "looking makes no key"


@pytest.mark.parametrize("name", ["1", "latest"])
def test_a_statement_is_downloaded_verified_and_kept(
    seller: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert statement(seller, name, "--output", seller / "kept.json") == 0
    found = capsys.readouterr()
    facts = {line[:20].strip(): line[21:] for line in found.out.splitlines()}
    leaf = STATED.leaf
    assert (facts["valid"], facts["node_id"], facts["number"]) == ("yes", leaf.node_id, "1")
    assert (facts["receipts"], facts["amount"], facts["payable"]) == ("4", format_usdc(leaf.amount), facts["amount"])
    assert leaf.amount > 0
    assert facts["period_end"].startswith("2026-")
    assert (seller / "kept.json").read_bytes() == BUNDLE
    assert statement(seller, seller / "kept.json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["valid"] is True


def test_a_statement_that_does_not_hold_exits_1_and_is_kept(
    seller: Path, pages: Pages, capsys: pytest.CaptureFixture[str]
) -> None:
    raised = BUNDLE.replace(f'"amount": {STATED.leaf.amount}'.encode(), b'"amount": 1000000')
    pages.answers[f"{pages.node}/statements/1"] = (200, raised)
    assert statement(seller, "1", "--output", seller / "kept.json") == 1
    assert capsys.readouterr().err.startswith("not valid: leaf signature")
    assert (seller / "kept.json").read_bytes() == raised
    assert statement(seller, seller / "kept.json", "--json") == 1
    assert json.loads(capsys.readouterr().out)["check"] == "leaf signature"


def test_another_statement_than_the_one_asked_for_is_refused(
    seller: Path, pages: Pages, capsys: pytest.CaptureFixture[str]
) -> None:
    pages.answers[f"{pages.node}/statements/2"] = (200, BUNDLE)
    assert statement(seller, "2") == 1
    assert "not valid: statement: is number 1" in capsys.readouterr().err


UNREADABLE: list[tuple[str, tuple[int, bytes], str]] = [
    ("not there", (404, b'{"error": {"message": "no statement"}}'), "cannot be asked so: gateway: no statement"),
    ("not now", (503, b'{"error": {"message": "try again"}}'), "cannot be read: gateway: status 503: try again"),
    ("another's answer", (302, b""), "cannot be read: gateway: status 302: no reason given"),
    ("nothing", (200, b""), "cannot be read: statement"),
    ("garbage", (200, b"\xff"), "cannot be read: statement"),
]


@pytest.mark.parametrize(("answer", "said"), [row[1:] for row in UNREADABLE], ids=[row[0] for row in UNREADABLE])
def test_where_there_is_no_statement_to_judge_it_exits_2(
    seller: Path, pages: Pages, capsys: pytest.CaptureFixture[str], answer: tuple[int, bytes], said: str
) -> None:
    pages.answers[f"{pages.node}/statements/1"] = answer
    assert statement(seller, "1") == 2
    assert capsys.readouterr().err.startswith(said)


def test_before_the_first_statement_there_is_no_latest(
    seller: Path, pages: Pages, capsys: pytest.CaptureFixture[str]
) -> None:
    pages.set_account(statements=0)
    assert statement(seller, "latest") == 2
    assert "there is no statement" in capsys.readouterr().err


def test_a_gateway_that_is_not_there_is_said(seller: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("earnings", "--data-dir", seller, "--gateway", "http://127.0.0.1:9") == 2
    assert "cannot be read: gateway: ConnectError" in capsys.readouterr().err


def test_output_goes_with_what_is_downloaded(seller: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (seller / "kept.json").write_bytes(BUNDLE)
    assert statement(seller, seller / "kept.json", "--output", seller / "again.json") == 2
    assert "--output" in capsys.readouterr().err
    assert statement(seller, "1", "--output", seller) == 2
    assert "cannot be asked so" in capsys.readouterr().err
