"""`pinaivu verify` and `pinaivu attestation` given something else than they ask for: they say what to give."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tests.shared.evidence import ANSWER, make_evidence

from pinaivu_shared.cli import attestation, verify

GENUINE = make_evidence()
REFUSAL = {"error": {"message": "no such model", "type": "x", "param": None, "code": "y"}, "request_id": "req_1"}


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The arguments for a bundle that is valid."""
    for name, content in (("bundle", GENUINE.bundle), ("trust", GENUINE.trust)):
        (tmp_path / name).write_text(json.dumps(content))
    return [str(tmp_path / "bundle"), "--trust", str(tmp_path / "trust")]


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


CONTENT = ANSWER[0]["message"]["content"]
CHUNKS = [chunk({"role": "assistant", "content": ""}), chunk({"content": CONTENT}), chunk({}, "stop")]


def test_a_receipt_in_place_of_its_bundle_is_told_where_that_is(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = GENUINE.bundle["receipt"]
    (tmp_path / "bundle").write_text(json.dumps(receipt))
    assert verify(files) == 2
    assert f"a receipt without its evidence; both are at /v1/receipts/{receipt['request_id']}/bundle" in (
        capsys.readouterr().err
    )


def test_the_list_of_the_chunks_is_an_answer(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chunks").write_text(json.dumps(CHUNKS))
    assert verify([*files, "--response", str(tmp_path / "chunks"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["opened_commitments"] == ["response"]


@pytest.mark.parametrize(
    "chunks",
    [[], ["data"], [None], [CHUNKS], [*CHUNKS, "[DONE]"], [CHUNKS[0], 1]],
    ids=str,
)
def test_another_list_is_no_answer(tmp_path: Path, files: list[str], chunks: list[object]) -> None:
    (tmp_path / "chunks").write_text(json.dumps(chunks))
    assert verify([*files, "--response", str(tmp_path / "chunks")]) == 2


def test_the_services_error_in_place_of_the_answer_is_shown(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "answer").write_text(json.dumps(REFUSAL))
    assert verify([*files, "--response", str(tmp_path / "answer")]) == 2
    assert "this is the service's error, and no answer: no such model" in capsys.readouterr().err


def test_an_old_document_is_judged_with_at(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One of whose certificates have expired meanwhile; whoever says when is told nothing of that."""
    said = []
    (tmp_path / "document").write_bytes(base64.b64decode(GENUINE.bundle["attestation"]))
    for when in ([], ["--at", "1"]):
        assert attestation(["verify", str(tmp_path / "document"), *files[1:], *when]) == 1
        said.append("; --at TIME judges one that was kept" in capsys.readouterr().err)
    assert said == [True, False]


def test_attestation_without_a_command_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        attestation([])
    assert ended.value.code == 2
    assert "judge a document now, or an archived one with --at" in capsys.readouterr().err
