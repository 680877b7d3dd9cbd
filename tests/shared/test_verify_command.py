"""`pinaivu verify` and `pinaivu attestation` as people and scripts run them: exit status, output, no network."""

import base64
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.shared.evidence import ANSWER, REQUEST, Told, make_evidence
from tests.shared.test_own_copies import HONEST, INPUT, VECTOR

from pinaivu_shared.report import report_lines

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


def lacking(name: str) -> dict[str, object]:
    return {part: value for part, value in GENUINE.bundle.items() if part != name}


ERROR_BODY = {"error": {"message": "no such receipt\x1b[2J", "type": "x", "param": None, "code": "y"}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (ERROR_BODY, "bundle: this is the service's error: no such receipt\\x1b[2J\n"),
        (lacking("receipt"), "bundle: not a JSON object with a receipt in it\n"),
        ({**GENUINE.bundle, "receipt": []}, "bundle: not a JSON object with a receipt in it\n"),
        ("# A page", "bundle: not JSON: "),
    ],
    ids=["error", "no receipt", "list", "page"],
)
def test_what_is_of_another_form_cannot_be_read_and_is_no_verdict(
    tmp_path: Path, trust: Path, content: object, said: str
) -> None:
    bundle = write(tmp_path, "odd", content)
    ended = run("verify", bundle, "--trust", trust)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"cannot be read: {said}")
    ended = run("verify", bundle, "--trust", trust, "--json")
    found = json.loads(ended.stdout)
    assert (ended.returncode, ended.stderr) == (2, "")
    assert (found.keys(), found["error"]) == ({"error", "detail"}, "unreadable")


def test_a_receipt_that_lacks_its_evidence_is_not_valid(tmp_path: Path, trust: Path) -> None:
    ended = run("verify", write(tmp_path, "odd", lacking("proof")), "--trust", trust)
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "not valid: bundle: not of the expected shape: Object missing required field `proof`"
    )


def test_a_trust_file_of_another_form_is_named_once(tmp_path: Path, bundle: Path) -> None:
    ended = run("verify", bundle, "--trust", write(tmp_path, "odd", {}))
    assert ended.returncode == 2
    assert ended.stderr.startswith("cannot be read: trust file: not of the expected shape: ")


def test_a_missing_file_exits_2(tmp_path: Path, bundle: Path, trust: Path) -> None:
    assert run("verify", tmp_path / "nowhere", "--trust", trust).returncode == 2
    assert run("verify", bundle, "--trust", tmp_path / "nowhere").returncode == 2
    assert run("verify", bundle).returncode == 2
    assert run("verify", bundle, "--trust", "").stderr == "cannot be asked so: the name of a file is empty\n"


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
    assert json.loads(ended.stdout)["opened_commitments"] == ["request", "forwarded", "response"]


def test_the_answer_of_another_endpoint_opens_the_same_commitment(tmp_path: Path, bundle: Path, trust: Path) -> None:
    """A response, its stream, which begins with the name of an event, and a text completion."""
    content = ANSWER[0]["message"]["content"]
    item = {"type": "message", "content": [{"type": "output_text", "text": content}]}
    response = {"object": "response", "status": "completed", "output": [item]}
    event = {"type": "response.completed", "response": response}
    text = {"object": "text_completion", "choices": [{"index": 0, "text": content, "finish_reason": "stop"}]}
    for answer in (response, f"event: response.completed\ndata: {json.dumps(event)}\n\n", text):
        ended = run("verify", bundle, "--trust", trust, "--response", write(tmp_path, "answer", answer), "--json")
        assert json.loads(ended.stdout)["opened_commitments"] == ["response"]


def test_what_could_not_be_compared_is_said(tmp_path: Path, trust: Path) -> None:
    """Without the answer an `input` may have been embedded or answered; where a node signed nothing, nothing can be."""
    said = {}
    for name, told in {"several": HONEST["vectors"], "nothing": Told(settled={"proof": None})}.items():
        bundle = write(tmp_path, "other", make_evidence(told=told).bundle)
        ended = run("verify", bundle, "--trust", trust, "--request", write(tmp_path, "asked", told.request), "--json")
        said[name] = json.loads(ended.stdout)
    assert "--response" in said["several"]["not_compared"]
    assert "signed nothing" in said["nothing"]["not_compared"]
    assert [one["opened_commitments"] for one in said.values()] == [["request"], ["request"]]


def test_the_answers_shape_tells_what_was_asked(tmp_path: Path, trust: Path) -> None:
    bundle = write(tmp_path, "other", make_evidence(told=HONEST["vectors"]).bundle)
    answer = {"object": "list", "data": [{"index": 0, "embedding": VECTOR}]}
    own = ("--request", write(tmp_path, "asked", INPUT), "--response", write(tmp_path, "answer", answer))
    found = json.loads(run("verify", bundle, "--trust", trust, *own, "--json").stdout)
    assert found["opened_commitments"] == ["request", "forwarded", "response"]
    assert "not_compared" not in found


@pytest.mark.parametrize(
    "answer", [ERROR_BODY, "data: {}\n\n", "data: {\n\n", '{"choices":[],"choices":[]}', "# A page"]
)
def test_what_is_no_answer_exits_2(tmp_path: Path, bundle: Path, trust: Path, answer: object) -> None:
    ended = run("verify", bundle, "--trust", trust, "--response", write(tmp_path, "answer", answer))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("cannot be read: ")


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


@pytest.mark.parametrize(
    "content", [b"garbage", b"# A page, in prose", b"\x80", b"\x01", b"", json.dumps(ERROR_BODY).encode()]
)
def test_what_is_no_document_exits_2(trust: Path, content: bytes) -> None:
    for command in (("show", "-"), ("verify", "-", "--trust", trust), ("verify", "-", "--trust", trust, "--at", "0")):
        ended = run("attestation", *command, content=content)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith("cannot be read: attestation")


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-1], lambda raw: raw + b"\0", lambda raw: b"\xd2" + raw],
    ids=["cut", "longer", "tagged"],
)
def test_a_damaged_document_is_judged_and_not_valid(
    tmp_path: Path, trust: Path, damage: Callable[[bytes], bytes]
) -> None:
    document = tmp_path / "document"
    document.write_bytes(damage(base64.b64decode(GENUINE.bundle["attestation"])))
    for more in ((), ("--at", "2026-11-25T00:00:00Z")):
        ended = run("attestation", "verify", document, "--trust", trust, *more)
        assert ended.returncode == 1
        assert ended.stderr.startswith("not valid: attestation document: ")


def test_a_document_that_says_it_is_signed_otherwise_is_judged_and_not_valid(tmp_path: Path, trust: Path) -> None:
    """As QEMU's, which are not signed at all."""
    raw = base64.b64decode(GENUINE.bundle["attestation"])
    document = tmp_path / "document"
    document.write_bytes(raw.replace(bytes.fromhex("44a1013822"), bytes.fromhex("43a10120")))
    ended = run("attestation", "verify", document, "--trust", trust)
    assert ended.returncode == 1
    assert ended.stderr == "not valid: attestation document: protected header is not {alg: ES384}\n"


def test_people_read_words_and_one_register_a_line(tmp_path: Path, bundle: Path, trust: Path) -> None:
    said = run("verify", bundle, "--trust", trust).stdout.splitlines()
    assert [line.split(maxsplit=1) for line in said if line.startswith(("valid", "opened"))] == [
        ["valid", "yes"],
        ["opened_commitments", "none"],
    ]
    document = write(tmp_path, "document", GENUINE.bundle["attestation"])
    shown = run("attestation", "show", document, "--json")
    said = run("attestation", "show", document).stdout.splitlines()
    assert said[0].split(maxsplit=1) == ["verified", "not checked"]
    assert not [line for line in said if "{" in line]
    pcr0 = json.loads(shown.stdout)["pcrs"]["0"]
    assert f"PCR0                 {pcr0}" in said


def test_zero_registers_that_follow_each_other_share_a_line() -> None:
    pcrs = {str(index): "00" * 48 for index in (0, *range(5, 16), 18)} | {"1": "a0" * 48, "16": "0b" * 48}
    assert [line.split() for line in report_lines({"pcrs": pcrs})] == [
        ["PCR0", "zero"],
        ["PCR1", "a0" * 48],
        ["PCR5-15", "zero"],
        ["PCR16", "0b" * 48],
        ["PCR18", "zero"],
    ]
    assert [line.split(maxsplit=1)[1] for line in report_lines({"a": ["x", "y"], "b": False, "c": None})] == [
        "x, y",
        "no",
        "none",
    ]


def test_the_version_is_that_of_the_package() -> None:
    ended = run("--version")
    assert (ended.returncode, ended.stdout) == (0, f"pinaivu {importlib.metadata.version('pinaivu')}\n")


WITHOUT = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name == LACKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
from pinaivu_shared.command import main
raise SystemExit(main())
"""


@pytest.mark.parametrize(
    ("lacked", "command", "extra"),
    [
        ("sqlalchemy", ("host", "create-key", "--data-dir", "d", "--account", "a", "--create"), "pinaivu[host]"),
        ("trio", ("dev",), "pinaivu[simulator]"),
        ("cryptography", ("verify", "-", "--trust", "-"), "pinaivu"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_what_brings_it(
    tmp_path: Path, lacked: str, command: tuple[str, ...], extra: str
) -> None:
    """At the command's own import or at one inside of it."""
    ended = without(lacked, command, tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == f"pinaivu {command[0]}: {lacked} is missing; install {extra}\n"


def test_a_module_of_our_own_that_is_missing_is_our_bug(tmp_path: Path) -> None:
    ended = without("pinaivu_shared.bundle", ("verify", "-", "--trust", "-"), tmp_path)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


def without(lacked: str, command: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", f"LACKED = {lacked!r}\n{WITHOUT}", *command]
    return subprocess.run(program, input="", capture_output=True, text=True, check=False, cwd=folder)


def test_an_unknown_command_exits_2_and_names_those_there_are() -> None:
    ended = run("nonsense")
    assert (ended.returncode, "verify" in ended.stderr) == (2, True)
