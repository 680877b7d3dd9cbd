"""`pinaivu host serve` as a process, beside a fake enclave, with a key that can pay."""

import asyncio
import contextlib
import io
import socket
import ssl
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.host.fake_enclave import OPERATOR_KEY, FakeEnclave
from tests.host.town import CONFIGURATION

from pinaivu_host.cli import host
from pinaivu_shared.canonical import encode


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@asynccontextmanager
async def served(
    folder: Path, port: int, *arguments: str, trusted: ssl.SSLContext | None = None
) -> AsyncIterator[Process]:
    """`pinaivu host serve` as a process, once it is ready; over HTTPS where the arguments say so and `trusted` is."""
    (folder / "configuration.json").write_bytes(encode(CONFIGURATION))
    command = "import sys; from pinaivu_host.cli import host; sys.exit(host(sys.argv[1:]))"
    data = () if "--database-url" in arguments else ("--data-dir", str(folder / "data"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", command, "serve", "--listen", f"127.0.0.1:{port}"),
        *("--enclave", f"unix:{folder / 'enclave.sock'}", "--configuration", str(folder / "configuration.json")),
        *(*data, "--kms-listen", f"unix:{folder / 'kms.sock'}", *arguments),
        stderr=PIPE,
    )
    try:
        url = f"{'https' if trusted else 'http'}://127.0.0.1:{port}/readyz"
        async with httpx.AsyncClient(trust_env=False, verify=trusted or True) as client:
            while process.returncode is None:
                try:
                    if (await client.get(url)).status_code == 200:
                        break
                except httpx.TransportError:
                    continue
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def enclave(tmp_path: Path) -> AsyncIterator[FakeEnclave]:
    found = FakeEnclave(tmp_path / "enclave.sock")
    await found.start()
    yield found
    await found.stop()


def create_key(folder: Path) -> str:
    """An account with credit, which is in the outbox until the host serves; its key."""
    (folder / "configuration.json").write_bytes(encode(CONFIGURATION))
    (folder / "operator.pem").touch(mode=0o600)
    (folder / "operator.pem").write_bytes(OPERATOR_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    signing = (
        "--operator-key-file",
        str(folder / "operator.pem"),
        "--configuration",
        str(folder / "configuration.json"),
    )
    data = ("--data-dir", str(folder / "data"))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert host(["create-key", "--create", *data, "--account", "dev", "--credit", "100", *signing]) == 0
    return printed.getvalue().strip()
