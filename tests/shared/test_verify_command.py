"""`pinaivu verify` and `pinaivu attestation` as people and scripts run them: exit status, output, no network."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.shared.evidence import ANSWER, REQUEST, make_evidence

GENUINE = make_evidence()
NO_NETWORK = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(f"touched the network: {event} {arguments}")
sys.addaudithook(refuse)
from pinaivu_shared.command import main
raise SystemExit(main())
"""


def run(*arguments: str | Path, content: bytes = b"") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", NO_NETWORK, *map(str, arguments)]
    ended = subprocess.run(command, input=content, capture_output=True, check=False)
    out, err = ended.stdout.decode(), ended.stderr.decode()
    assert "Traceback" not in err
    return subprocess.CompletedProcess(command, ended.returncode, out, err)


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    path = tmp_path / "trust.json"
    path.write_text(json.dumps(GENUINE.trust))
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps(GENUINE.bundle))
    return path


def write(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_valid_bundle_exits_0_and_says_what_is_not_proven(bundle: Path, trust: Path) -> None:
    ended = run("verify", bundle, "--trust", trust)
    assert ended.returncode == 0
    assert "weights" in ended.stdout


def test_json_output_is_one_object(bundle: Path, trust: Path) -> None:
    found = json.loads(run("verify", bundle, "--trust", trust, "--json").stdout)
    assert (found["valid"], found["finality"], found["outcome"]) == (True, "issued", "completed")


def test_a_forged_bundle_exits_1_and_names_the_check(tmp_path: Path, trust: Path) -> None:
    forged = {**GENUINE.bundle, "receipt": {**GENUINE.bundle["receipt"], "payment_amount": "1.000000 USDC"}}
    ended = run("verify", write(tmp_path, "forged.json", forged), "--trust", trust)
    assert (ended.returncode, ended.stderr.split(":")[:2]) == (1, ["not valid", " receipt signature"])
    ended = run("verify", write(tmp_path, "forged.json", forged), "--trust", trust, "--json")
    assert json.loads(ended.stdout)["check"] == "receipt signature"


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x00\xff" * 1000, b"[" * 100_000, b"[1]"])
def test_what_is_no_bundle_exits_2(content: bytes, trust: Path) -> None:
    assert run("verify", "-", "--trust", trust, content=content).returncode == 2


def test_a_missing_file_exits_2(tmp_path: Path, bundle: Path, trust: Path) -> None:
    assert run("verify", tmp_path / "nowhere", "--trust", trust).returncode == 2
    assert run("verify", bundle, "--trust", tmp_path / "nowhere").returncode == 2
    assert run("verify", bundle).returncode == 2


@pytest.mark.parametrize("streamed", [False, True])
def test_request_and_answer_are_opened_from_files(tmp_path: Path, bundle: Path, trust: Path, *, streamed: bool) -> None:
    request = write(tmp_path, "request.json", REQUEST)
    content = ANSWER[0]["message"]["content"]
    chunks = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": content[:4]}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": content[4:]}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    stream = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    answer = write(tmp_path, "answer", stream if streamed else {"choices": ANSWER})
    ended = run("verify", bundle, "--trust", trust, "--request", request, "--response", answer, "--json")
    assert json.loads(ended.stdout)["opened_commitments"] == ["request", "response"]


def test_another_answer_exits_1(tmp_path: Path, bundle: Path, trust: Path) -> None:
    answer = write(tmp_path, "answer", {"choices": [{**ANSWER[0], "finish_reason": "length"}]})
    ended = run("verify", bundle, "--trust", trust, "--response", answer)
    assert (ended.returncode, "response commitment" in ended.stderr) == (1, True)


@pytest.mark.parametrize("form", ["binary", "base64", "hex"])
def test_an_attestation_document_is_shown_and_judged(tmp_path: Path, trust: Path, form: str) -> None:
    raw = base64.b64decode(GENUINE.bundle["attestation"])
    document = tmp_path / "document"
    document.write_bytes({"binary": raw, "base64": base64.b64encode(raw), "hex": raw.hex().encode()}[form])
    shown = json.loads(run("attestation", "show", document, "--json").stdout)
    assert shown["verified"] is False
    judged = run("attestation", "verify", document, "--trust", trust, "--at", shown["timestamp"], "--json")
    assert json.loads(judged.stdout)["pcrs"] == shown["pcrs"]
    assert run("attestation", "verify", document, "--trust", trust).returncode == 1
    assert run("attestation", "verify", document, "--trust", trust, "--at", "0").returncode == 1


def test_what_is_no_document_exits_2(trust: Path) -> None:
    assert run("attestation", "show", "-", content=b"garbage").returncode == 2


def test_an_unknown_command_exits_2_and_names_those_there_are() -> None:
    ended = run("nonsense")
    assert (ended.returncode, "verify" in ended.stderr) == (2, True)
