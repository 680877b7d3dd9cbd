"""`pinaivu host`: flags, keys, a process that ends cleanly on SIGTERM."""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest
from tests.host.fake_enclave import FakeEnclave
from tests.host.fake_node import FakeNode, Gate, Offered
from tests.host.program import create_key, enclave, free_port, served
from tests.host.town import CONFIGURATION, request

from pinaivu_host.cli import host
from pinaivu_shared.canonical import encode
from pinaivu_shared.sse import data_events

__all__ = ["enclave"]
pytestmark = pytest.mark.anyio


async def test_a_created_key_is_printed_once_and_works(tmp_path: Path, enclave: FakeEnclave) -> None:
    key = await asyncio.to_thread(create_key, tmp_path)
    assert key.startswith("sk-pnv-")
    port = free_port()
    async with served(tmp_path, port) as process, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/v1/models", headers={"authorization": f"Bearer {key}"})
        assert answer.json() == {"object": "list", "data": []}
        process.send_signal(signal.SIGTERM)
        _, logged = await process.communicate()
        assert process.returncode == 0
        assert b"Traceback" not in logged
        assert b"alembic" not in logged, "migrations are no news"
        assert key.encode() not in logged


async def test_running_streams_end_before_the_process_does(tmp_path: Path, enclave: FakeEnclave) -> None:
    key = await asyncio.to_thread(create_key, tmp_path)
    port = free_port()
    proceed = asyncio.Event()

    async def wait(offered: Offered) -> None:
        await offered.accept()
        await offered.delta("begun")
        await proceed.wait()
        await offered.delta(" and ended")
        await offered.delta(finish_reason="stop")
        await offered.prove("begun and ended")

    async with served(tmp_path, port) as process, httpx.AsyncClient(trust_env=False, timeout=60) as client:
        await enclave.credited()
        node = await FakeNode(port, wait).start()
        url, headers = f"http://127.0.0.1:{port}/v1/chat/completions", {"authorization": f"Bearer {key}"}
        text = ""
        async with client.stream("POST", url, headers=headers, json=request(stream=True)) as response:
            async for piece in response.aiter_text():
                text += piece
                if "begun" in piece and not proceed.is_set():
                    process.send_signal(signal.SIGTERM)
                    while (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                        assert process.returncode is None
                    refused = await client.post(url, headers=headers, json=request())
                    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
                    assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
                    proceed.set()
        assert text.endswith("data: [DONE]\n\n")
        assert await process.wait() == 0
        await node.gone()


async def test_streams_that_take_too_long_are_told_why_they_end(tmp_path: Path, enclave: FakeEnclave) -> None:
    key = await asyncio.to_thread(create_key, tmp_path)
    port = free_port()

    async def until_cancelled(offered: Offered) -> None:
        await offered.accept()
        await offered.delta("begun")
        await offered.cancelled.wait()
        await offered.prove("begun", outcome="cancelled", finish_reason=None)

    async with (
        served(tmp_path, port, "--drain-ms", "50") as process,
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        await enclave.credited()
        node = await FakeNode(port, until_cancelled).start()
        url, headers = f"http://127.0.0.1:{port}/v1/chat/completions", {"authorization": f"Bearer {key}"}
        text = ""
        async with client.stream("POST", url, headers=headers, json=request(stream=True)) as response:
            async for piece in response.aiter_text():
                text += piece
                if "begun" in piece:
                    process.send_signal(signal.SIGTERM)
        assert list(data_events(text))[-1]["error"]["code"] == "shutting_down"
        assert await process.wait() == 0
        assert enclave.open_jobs == 0
        await node.gone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_the_process_at_once(
    tmp_path: Path, enclave: FakeEnclave, number: signal.Signals
) -> None:
    key = await asyncio.to_thread(create_key, tmp_path)
    port = free_port()
    gate = Gate()
    async with (
        served(tmp_path, port, "--drain-ms", "3600000") as process,
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        await enclave.credited()
        node = await FakeNode(port, gate.script).start()
        url, headers = f"http://127.0.0.1:{port}", {"authorization": f"Bearer {key}"}
        asking = asyncio.create_task(client.post(f"{url}/v1/chat/completions", headers=headers, json=request()))
        await gate.begun.wait()
        process.send_signal(number)
        while (await client.get(f"{url}/readyz")).status_code == 200:
            assert process.returncode is None
        process.send_signal(number)
        assert await process.wait() == -number
        with pytest.raises(httpx.TransportError):
            await asking
        gate.proceed.set()
        await node.gone()


async def test_a_killed_host_starts_again_where_it_was(tmp_path: Path, enclave: FakeEnclave) -> None:
    key = await asyncio.to_thread(create_key, tmp_path)
    port = free_port()
    headers = {"authorization": f"Bearer {key}"}
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        async with served(tmp_path, port) as process:
            await enclave.credited()
            node = await FakeNode(port, lambda offered: offered.answer("x")).start()
            answer = await client.post(f"{url}/v1/chat/completions", headers=headers, json=request())
            process.kill()
            await process.wait()
            await node.gone()
        async with served(tmp_path, port):
            receipt = await client.get(f"{url}/v1/receipts/{answer.json()['request_id']}", headers=headers)
            assert receipt.content in enclave.leaves
            node = await FakeNode(port, lambda offered: offered.answer("x")).start()
            assert (await client.post(f"{url}/v1/chat/completions", headers=headers, json=request())).status_code == 200
            await node.stop()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--enclave": "tcp:1"}, "'tcp:1' is no enclave address"),
        ({"--kms-listen": "tcp:5001"}, "'tcp:5001' is no address to listen at"),
        ({"--kms-listen": "unix:missing/kms.sock"}, "cannot listen at unix:missing/kms.sock: No such file"),
        ({"--kms-listen": "unix:taken.sock"}, "cannot listen at unix:taken.sock"),
        ({"--kms-connect": "localhost"}, "--kms-connect: 'localhost' is not HOST:PORT"),
        ({"--listen": "foo"}, "--listen: 'foo' is not HOST:PORT"),
        ({"--listen": ":8080"}, "--listen: ':8080' is not HOST:PORT"),
        ({"--listen": "127.0.0.1:port"}, "--listen: '127.0.0.1:port' is not HOST:PORT"),
        ({"--listen": "127.0.0.1:65536"}, "--listen: '127.0.0.1:65536' is not HOST:PORT"),
        ({"--listen": "TAKEN"}, "--listen TAKEN: Address already in use"),
        ({"--configuration": "missing.json"}, "--configuration missing.json: No such file or directory"),
        ({"--configuration": ""}, "--configuration is empty"),
        ({"--queue-ms": "soon"}, "--queue-ms: 'soon' is no number"),
        ({"--data-dir": ""}, "give one of --data-dir and --database-url"),
        ({"--data-dir": "", "--database-url": "host.sqlite"}, "--database-url: not a URL of SQLAlchemy's"),
        ({"--max-body-bytes": "99999999"}, "--max-body-bytes must be between"),
        ({"--admin-key-file": "short"}, "--admin-key-file short: a secret of at least 16 characters"),
        ({"--tls-certificate": "none.pem"}, "give both of --tls-certificate and --tls-key, or neither"),
        ({"--tls-certificate": "no", "--tls-key": "no"}, "--tls-certificate no: No such file or directory"),
        ({"--trusted-proxies": "*"}, "--trusted-proxies: '*' is no address"),
        ({"--cors-origins": "example.com"}, "--cors-origins: 'example.com' is no origin"),
        ({"--connections-max": "0"}, "--connections-max must be at least 1"),
        ({"--connections-max": "99999999999"}, "--connections-max 99999999999 takes 100000000255 open files"),
        ({"--admin-key-file": "none"}, "--admin-key-file none: No such file or directory"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_said_and_ends_with_2(
    tmp_path: Path,
    change: dict[str, str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configuration.json").write_bytes(encode(CONFIGURATION))
    (tmp_path / "short").write_text("key")
    flags = {"--enclave": "unix:e.sock", "--configuration": "configuration.json", "--data-dir": "data"}
    flags |= {"--listen": "127.0.0.1:0", "--kms-listen": "unix:kms.sock"}
    with socket.socket(socket.AF_UNIX) as taken, socket.socket() as used:
        taken.bind("taken.sock")
        taken.listen()
        used.bind(("127.0.0.1", 0))
        used.listen()
        place = f"127.0.0.1:{used.getsockname()[1]}"
        arguments = [text.replace("TAKEN", place) for pair in (flags | change).items() for text in pair]
        assert host(["serve", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"pinaivu host: {said.replace('TAKEN', place)}")


def test_a_configuration_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "configuration.json").write_text(json.dumps({"version": 2}))
    arguments = ["--enclave", "unix:e", "--data-dir", str(tmp_path), "--configuration"]
    assert host(["serve", *arguments, str(tmp_path / "configuration.json")]) == 2
    assert "configuration" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["configuration.json"]  # noqa: PTH208 - names only


def test_a_mistyped_folder_gets_no_database_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key in a database that no host reads opens nothing, and nobody would know why."""
    for place in (("--data-dir", str(tmp_path / "dta")), ("--database-url", f"sqlite:///{tmp_path}/dta/host.sqlite")):
        assert host(["create-key", *place, "--account", "dev"]) == 2
        said = capsys.readouterr()
        assert (said.out, "there is no database of a host; to make one, say --create" in said.err) == ("", True)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - names only


def test_a_database_that_is_there_takes_further_keys_and_is_its_owners_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = create_key(tmp_path)
    assert host(["create-key", "--data-dir", str(tmp_path / "data"), "--account", "second"]) == 0
    assert capsys.readouterr().out.strip() not in {"", first}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "data").iterdir()} == {0o600}
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("account", ["", "  "])
def test_an_account_without_a_name_is_an_empty_variable_of_somebody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], account: str
) -> None:
    assert host(["create-key", "--create", "--data-dir", str(tmp_path / "data"), "--account", account]) == 2
    assert capsys.readouterr().err.startswith("pinaivu host: --account is empty")
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - names only
