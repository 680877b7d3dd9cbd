"""`pinaivu dev` where it cannot run: one line that says why, exit status 2, no traceback."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.network.conftest import Description, running

from pinaivu_shared.enrolment import read_measurements

EXPORTED = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "PINAIVU_TRUST")


def dev(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pinaivu_shared.command", "dev", "--json", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check_refused(ended: subprocess.CompletedProcess[str], why: str) -> None:
    assert (ended.returncode, ended.stdout) == (2, "")
    assert why in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_is_for_one_network(tmp_path: Path) -> None:
    with running(tmp_path, "echo", nodes=1):
        check_refused(dev("--engine", "echo", "--port", "0", "--data-dir", tmp_path), "another network")


def test_parts_that_outlive_their_supervisor_keep_the_folder_and_are_named(tmp_path: Path) -> None:
    """A second network on one log would fork it."""
    command = [sys.executable, "-m", "pinaivu_shared.command", "dev", "--json", "--engine", "echo", "--nodes", "1"]
    folder = ["--port", "0", "--data-dir", str(tmp_path)]
    with subprocess.Popen([*command, *folder], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pids = json.loads(supervisor.stdout.readline())["pids"]
        supervisor.kill()
    parts = [pids["host"], pids["enclave"], pids["kms"], *pids["nodes"]]
    ended = dev("--engine", "echo", *folder)
    for pid in parts:
        os.kill(pid, signal.SIGKILL)
    check_refused(ended, "another network")
    assert all(str(pid) in ended.stderr for pid in parts)
    with (tmp_path / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # once they are gone the folder is free
    with running(tmp_path, "echo", nodes=1) as network:
        assert network["models"] == ["echo"]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("vault.secret", b"", "is of a version before KMS"),
        ("configuration.json", b'{"version":1,"kms":{}}', "is of a version before credit was in the enclave"),
        ("configuration.json", b'{"operator_key":""}', "is of a version before the market bounded contexts"),
    ],
)
def test_a_folder_of_an_older_version_is_refused(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    (tmp_path / name).write_bytes(content)
    check_refused(dev("--engine", "echo", "--port", "0", "--data-dir", tmp_path), f"{tmp_path} {why}")
    assert (tmp_path / name).read_bytes() == content


def test_a_shell_can_export_what_people_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "a [bold] name of more columns than a terminal has, with an apostrophe of its user's"
    command = [sys.executable, "-m", "pinaivu_shared.command", "dev", "--engine", "echo", "--nodes", "1"]
    with subprocess.Popen(
        [*command, "--port", "0", "--data-dir", str(folder)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        shown: list[str] = []
        while len(shown) < len(EXPORTED):
            line = process.stderr.readline()
            assert line, "it ended before it was ready"
            shown += [line] if line.startswith("  export ") else []
        process.send_signal(signal.SIGTERM)
        process.communicate()
    printing = "".join(f'printf "%s\\n" "${name}"\n' for name in EXPORTED)
    ended = subprocess.run(["sh", "-c", "".join(shown) + printing], capture_output=True, text=True, check=True)
    base_url, api_key, trust = ended.stdout.splitlines()
    assert base_url.startswith("http://127.0.0.1:")
    assert api_key.startswith("sk-pnv-")
    assert trust == str((folder / "trust.json").resolve())


def test_the_measurements_to_rehearse_an_audit_with_lie_in_the_folder(
    tmp_path: Path, echo_network: Description
) -> None:
    folder = Path(echo_network["trust"]).parent
    trust = json.loads((folder / "trust.json").read_text())
    measured = read_measurements((folder / "pcrs.json").read_bytes())
    assert {str(index): value.hex() for index, value in measured.items()} == trust["pcrs"]


@pytest.mark.parametrize(
    ("made", "named", "why"),
    [
        ("", "file", "is a file, where a folder is expected"),
        ("", "file/below", "Not a directory"),
        ("lock", "", "no file can be made there: Is a directory"),
    ],
)
def test_what_is_no_folder_to_write_to_is_said_at_once(tmp_path: Path, made: str, named: str, why: str) -> None:
    """A folder in the place of a file stands for one that is another user's, since root may write to that."""
    (tmp_path / "file").write_text("not a folder")
    folder = tmp_path / named
    if made:
        (tmp_path / made).mkdir()
    ended = dev("--engine", "echo", "--port", "0", "--data-dir", folder)
    check_refused(ended, why)
    assert ended.stderr == f"pinaivu: --data-dir {folder}: {why}\n"


def test_a_port_in_use_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        check_refused(dev("--engine", "echo", "--port", port, "--data-dir", tmp_path), f"port {port}")


def test_an_engine_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    check_refused(dev("--engine", "http://127.0.0.1:9", "--port", "0", "--data-dir", tmp_path), "no model list")


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        ("nonsense", "expected embedded, echo, echo:SETTINGS or the URL of an OpenAI-protocol server"),
        ("echo:nonsense", "nonsense"),
    ],
)
def test_what_is_no_engine_is_said_at_once(tmp_path: Path, engine: str, why: str) -> None:
    check_refused(dev("--engine", engine, "--port", "0", "--data-dir", tmp_path), why)


def test_an_engine_by_url_serves_its_own_models(tmp_path: Path, echo_network: Description) -> None:
    """Any OpenAI-protocol server will do; here it is a child that speaks it."""
    command = [sys.executable, "-m", "pinaivu_node.engines.echo_server", "--settings", "", "--port", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as engine:
        assert engine.stdout is not None
        url = engine.stdout.readline().strip().strip('"')
        try:
            with running(tmp_path, _address(url), nodes=1) as network:
                assert network["models"] == ["echo"]
        finally:
            engine.terminate()


def _address(line: str) -> str:
    """The first URL in the line that the engine prints when it is ready."""
    return "http://" + line.split("http://", 1)[1].split('"', 1)[0]
