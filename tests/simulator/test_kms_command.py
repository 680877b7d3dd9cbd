"""`pinaivu simulator kms`: one line says where it is, SIGTERM ends it, and wrong usage never starts it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from tests.simulator.kms_bench import policy_document
from tests.simulator.kms_wire import Endpoint, opened, request
from tests.simulator.programs import running_program

from pinaivu_simulator.kms.folder import KmsFolder


@contextmanager
def program(folder: Path, policy: Path) -> Iterator[dict[str, str]]:
    """`pinaivu simulator kms`, ended by SIGTERM, after which it must exit with 0."""
    flags = ("--listen", "127.0.0.1:0", "--data-dir", str(folder), "--policy", str(policy))
    with running_program("simulator", "kms", *flags) as said:
        yield said


@pytest.mark.trio
async def test_the_command_says_where_it_is_and_takes_a_policy_later(tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    with program(tmp_path, policy) as said:
        kept = KmsFolder(tmp_path)
        assert (said["key_arn"], said["tls_root"]) == (kept.key_arn, kept.tls_root.hex())
        assert said["credentials"] == str(kept.credentials_file)
        endpoint = Endpoint(int(said["endpoint"].removeprefix("127.0.0.1:")), kept)
        early = await endpoint.call("GenerateDataKey", request(endpoint, KeySpec="AES_256"))
        assert early.json()["__type"] == "AccessDeniedException"
        policy.write_bytes(policy_document())
        opened(await endpoint.call("GenerateDataKey", request(endpoint, KeySpec="AES_256")))
        policy.write_bytes(policy_document(PCR16="ab" * 48))
        late = await endpoint.call("GenerateDataKey", request(endpoint, KeySpec="AES_256"))
        assert late.json()["__type"] == "AccessDeniedException"


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--policy", "wrong.json", "key policy"),
        ("--policy", "open.json", "PCR0"),
        ("--policy", ".", "key policy"),
        ("--listen", "0.0.0.0:0", "127.0.0.1:PORT only"),
        ("--listen", "127.0.0.1:65536", "127.0.0.1:PORT only"),
        ("--listen", "127.0.0.1:", "127.0.0.1:PORT only"),
    ],
)
def test_the_command_refuses_what_it_cannot_serve(tmp_path: Path, flag: str, value: str, said: str) -> None:
    (tmp_path / "wrong.json").write_text("{}")
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}
    (tmp_path / "open.json").write_text(json.dumps({"Version": "2012-10-17", "Statement": [everybody]}))
    flags = {"--data-dir": str(tmp_path / "data"), "--policy": str(tmp_path / "none.json"), "--listen": "127.0.0.1:0"}
    flags |= {flag: str(tmp_path / value) if flag == "--policy" else value}
    command = [sys.executable, "-m", "pinaivu_shared.command", "simulator", "kms"]
    command += [each for pair in flags.items() for each in pair]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        started = process.stdout.readline()
        if started:
            process.terminate()
        _, complaint = process.communicate()
    assert (process.returncode, started) == (2, "")
    assert said in complaint
    assert "Traceback" not in complaint


def test_nobody_takes_the_root_for_amazons(tmp_path: Path) -> None:
    root = x509.load_der_x509_certificate(KmsFolder(tmp_path).tls_root)
    assert "Simulator" in root.subject.rfc4514_string()
    assert "Amazon" not in root.subject.rfc4514_string()
    assert root.subject == root.issuer
