"""Where `pinaivu host serve` listens: as its log says, with one process that speaks HTTP and with several."""

import signal
from pathlib import Path

import pytest
from tests.host.fake_enclave import FakeEnclave
from tests.host.program import enclave, free_port, served
from tests.host.town import CONFIGURATION

from pinaivu_host.cli import host
from pinaivu_shared.canonical import encode

__all__ = ["enclave"]


async def log_of(folder: Path, port: int, *flags: str) -> str:
    """What a host has logged when it has been ready, and was ended."""
    async with served(folder, port, *flags) as process:
        process.send_signal(signal.SIGTERM)
        _, logged = await process.communicate()
    return logged.decode()


@pytest.mark.anyio
async def test_the_log_says_where_it_listens(tmp_path: Path, enclave: FakeEnclave) -> None:
    port = free_port()
    assert f'"listening" listen="127.0.0.1:{port}"\n' in await log_of(tmp_path, port)


@pytest.mark.anyio
async def test_with_several_workers_the_log_says_where_callers_and_nodes_connect(
    tmp_path: Path, enclave: FakeEnclave
) -> None:
    port, node_port = free_port(), free_port()
    logged = await log_of(tmp_path, port, "--workers", "2", "--node-listen", f"127.0.0.1:{node_port}")
    assert f'"listening" listen="127.0.0.1:{port}" node_listen="127.0.0.1:{node_port}"\n' in logged
    assert "unix socket" not in logged, "what is between host and workers is nobody else's business"


def test_fewer_than_one_worker_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "configuration.json").write_bytes(encode(CONFIGURATION))
    flags = ["--enclave", "unix:x", "--configuration", str(tmp_path / "configuration.json"), "--workers", "0"]
    assert host(["serve", *flags, "--data-dir", str(tmp_path), "--listen", "127.0.0.1:0"]) == 2
    assert capsys.readouterr().err == "pinaivu host: --workers 0: at least one process speaks HTTP\n"
