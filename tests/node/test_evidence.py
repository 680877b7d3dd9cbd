"""What a node keeps on disk of what was signed."""

import json
from pathlib import Path

import pytest

from pinaivu_node import evidence
from pinaivu_node.evidence import ACKNOWLEDGEMENTS, JOBS, EvidenceFiles
from pinaivu_node.job import ProvenJob
from pinaivu_node.quotes import Acknowledged
from pinaivu_shared.signed import Signed

QUOTED = Acknowledged(Signed(b"quote", b"1"), Signed(b"stands", b"2"))
PROVEN = ProvenJob(Signed(b"award", b"3"), Signed(b"proof", b"4"))


def lines(path: Path) -> list[dict[str, dict[str, str]]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_kind_has_its_file_and_each_thing_its_line(tmp_path: Path) -> None:
    files = EvidenceFiles(tmp_path)
    for _ in range(2):
        files.keep_quote(QUOTED)
        files.keep_job(PROVEN)
    quote, stands = ({"payload": one.hex(), "signature": n.hex()} for one, n in ((b"quote", b"1"), (b"stands", b"2")))
    assert lines(tmp_path / ACKNOWLEDGEMENTS) == [{"quote": quote, "acknowledgement": stands}] * 2
    award, proof = ({"payload": one.hex(), "signature": n.hex()} for one, n in ((b"award", b"3"), (b"proof", b"4")))
    assert lines(tmp_path / JOBS) == [{"award": award, "proof": proof}] * 2


def test_a_full_file_makes_room_and_stays_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(evidence.MAX_FILE_BYTES, JOBS, 1)
    files = EvidenceFiles(tmp_path)
    for _ in range(3):
        files.keep_job(PROVEN)
    assert [len(lines(tmp_path / name)) for name in (JOBS, "jobs.1.jsonl")] == [1, 1]


def test_a_disk_that_takes_nothing_costs_the_evidence_and_not_the_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    EvidenceFiles(tmp_path / "nowhere").keep_job(PROVEN)
    assert caplog.messages == ["evidence not kept"]
