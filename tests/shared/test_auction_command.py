"""`pinaivu auction explain` as people and scripts run it: exit status, output, no network, base packages only."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.shared.test_auction_explanation import BUNDLE, GENUINE

from pinaivu_shared.canonical import encode
from pinaivu_shared.errors import CallerError, UnreadableError
from pinaivu_shared.evidence_files import read_evidence, read_file

CONFINED = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name in {"rich", "trio", "httpx", "sqlalchemy", "pydantic"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
def refuse(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(f"touched the network: {event} {arguments}")
sys.addaudithook(refuse)
from pinaivu_shared.command import main
raise SystemExit(main())
"""


def run(*arguments: str | Path, content: bytes = b"") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CONFINED, "auction", "explain", *map(str, arguments)]
    ended = subprocess.run(command, input=content, capture_output=True, check=False)
    out, err = ended.stdout.decode(), ended.stderr.decode()
    assert "Traceback" not in err
    return subprocess.CompletedProcess(command, ended.returncode, out, err)


@pytest.mark.parametrize("evidence", [GENUINE, BUNDLE], ids=["transcript", "bundle"])
def test_a_transcript_or_a_bundle_is_explained_from_a_file_or_standard_input(
    tmp_path: Path, evidence: dict[str, object]
) -> None:
    path = tmp_path / "evidence.json"
    path.write_text(json.dumps(evidence))
    from_file, from_input = run(path), run("-", content=path.read_bytes())
    assert (from_file.returncode, from_file.stderr) == (0, "")
    assert from_file.stdout == from_input.stdout
    heading, first, *_ = [line for line in from_file.stdout.splitlines() if line.startswith(("rank", "   1"))]
    assert heading.split() == ["rank", "node", "operator", "input", "output", "cost", "quality", "score", "why"]
    assert first.endswith("won by 50.00 %")


def test_json_is_one_object_with_every_bid(tmp_path: Path) -> None:
    ended = run("-", "--json", content=encode(GENUINE))
    found = json.loads(ended.stdout)
    assert (ended.returncode, found["valid"], found["runner_up"]) == (0, True, 2)
    assert [one["place"] for one in found["bids"]] == ["winner", "runner_up", "outbid"]
    assert found["input_price"] == {
        "own": 100,
        "scaled": 150,
        "reserve": 40_000,
        "cleared": 150,
        "source": "runner_up",
    }


def test_a_transcript_that_does_not_come_out_of_its_bids_exits_1_and_names_the_check() -> None:
    forged = encode({**GENUINE, "output_price": 151})
    ended = run("-", content=forged)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "not valid: transcript: running second-score-v1 on its bids gives another result\n"
    found = json.loads(run("-", "--json", content=forged).stdout)
    assert (found["valid"], found["check"]) == (False, "transcript")


def test_a_bundle_with_the_transcript_of_another_job_exits_1() -> None:
    other = {**GENUINE, "request_id": "req_01m7q5cqg04s5atv5pvmggzb6m"}
    assert run("-", content=encode(other)).returncode == 0
    ended = run("-", content=encode({**BUNDLE, "proof": "", "transcript": other}))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "not valid: transcript: is not the one whose digest the receipt carries\n"


@pytest.mark.parametrize("content", [b"", b"garbage\x1b[2J", b"{}", b"[" * 100_000])
def test_what_is_no_transcript_exits_2_and_is_no_verdict(content: bytes) -> None:
    ended = run("-", content=content)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("cannot be read: transcript: ")
    assert json.loads(run("-", "--json", content=content).stdout).keys() == {"error", "detail"}


def test_wrong_usage_exits_2(tmp_path: Path) -> None:
    assert run(tmp_path / "nowhere").stderr == f"cannot be read: {tmp_path}/nowhere: No such file or directory\n"
    assert run("").stderr == "cannot be asked so: the name of a file is empty\n"
    assert {run(tmp_path / "nowhere").returncode, run("").returncode, run().returncode} == {2}


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    for read in (read_file, read_evidence):
        assert read(str(tmp_path / "file"), 3) == b"123"
        with pytest.raises(UnreadableError, match="more than 2 bytes"):
            read(str(tmp_path / "file"), 2)
    with pytest.raises(CallerError, match="empty"):
        read_evidence("", 3)
