"""`pinaivu dev` where it cannot run: one line that says why, exit status 2, no traceback."""

import socket
import subprocess
import sys
from pathlib import Path

from tests.network.conftest import Description, running


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


def test_a_port_in_use_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        check_refused(dev("--engine", "echo", "--port", port, "--data-dir", tmp_path), f"port {port}")


def test_an_engine_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    check_refused(dev("--engine", "http://127.0.0.1:9", "--port", "0", "--data-dir", tmp_path), "no model list")


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
