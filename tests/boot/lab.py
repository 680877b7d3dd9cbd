"""The lab: the production image in QEMU, a real host beside it, a KMS, and a node that takes QEMU's word.

QEMU signs no document, so production verifiers refuse them, and must. What believes them here is this file: the KMS
and the node of the lab read unsigned documents, and nothing in the image or in any package does.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import httpx
import trio

from pinaivu_enclave.nsm.timestamp import read_own_payload
from pinaivu_host.kms_policy import key_policy
from pinaivu_host.store.database import Database
from pinaivu_host.store.engine import sqlite_url
from pinaivu_host.store.vault import SealedVault
from pinaivu_node.agent import Agent
from pinaivu_node.process import build_agent
from pinaivu_node.settings import load_settings
from pinaivu_shared.attestation.policy import IMAGE_PCRS, configuration_pcr
from pinaivu_shared.canonical import decode
from pinaivu_shared.configuration import KmsTerms, parse_configuration
from pinaivu_shared.eif.format import parse_eif
from pinaivu_shared.eif.measurements import measure
from pinaivu_shared.epoch import VerifiedEpoch
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.key_file import make_key_file, public_bytes, read_key_file
from pinaivu_shared.manifest import KeyManifest
from pinaivu_simulator.kms.folder import KmsFolder, read_policy
from pinaivu_simulator.kms.judge import Attested
from pinaivu_simulator.kms.server import serve_kms
from pinaivu_simulator.kms.service import KmsService
from pinaivu_simulator.kms.store import MotoKeyStore
from pinaivu_simulator.market import market_configuration
from pinaivu_simulator.nsm import ROLE
from pinaivu_simulator.ports import free_port
from pinaivu_simulator.qemu import APPENDED, BootError, Emulator, Machine, booted

READY_SECONDS = 120.0
BOOT_ATTEMPTS = 2


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def read_qemu(document: bytes) -> dict[Any, Any]:
    """What an unsigned document says."""
    return dict(read_own_payload(document))


def qemu_judge(document: bytes, _now_ms: int) -> Attested:
    """The judge of the lab's KMS."""
    said = read_qemu(document)
    return Attested(pcrs=said["pcrs"], public_key=said["public_key"], timestamp_ms=said["timestamp"])


def qemu_verify(document: bytes, manifest: bytes, configuration: bytes, *, nonce: bytes, now_ms: int) -> VerifiedEpoch:
    """The lab node's verifier: everything but the signature, which is not there."""
    said = read_qemu(document)
    keys = decode(manifest, KeyManifest, check="manifest")
    if (said["nonce"], said["user_data"]) != (nonce, keys.user_data()):
        raise VerificationError("lab", "nonce or manifest are not those of the document")
    if said["pcrs"][16] != configuration_pcr(configuration):
        raise VerificationError("lab", "another configuration was measured")
    return VerifiedEpoch(cast("Any", None), keys, parse_configuration(configuration))


class LabFolder:
    """What lasts from one boot to the next: the KMS key, the configuration, the host's database, the node's key."""

    def __init__(self, folder: Path, image: Path, *, engine: str = "echo") -> None:
        self.folder, self.image, self.engine = folder, image, engine
        (folder / "kms").mkdir()
        self.kms = KmsFolder(folder / "kms")
        terms = KmsTerms(key_arn=self.kms.key_arn, tls_root=self.kms.tls_root.hex())
        self.origin = f"lab.test/{secrets.token_hex(4)}"
        self.operator_key_file = folder / "operator.key"
        make_key_file(self.operator_key_file)
        operator_key = public_bytes(read_key_file(self.operator_key_file))
        self.configuration = market_configuration(
            self.origin, ["echo"], operator_key=operator_key, platform="qemu", kms=terms
        )
        (folder / "configuration.json").write_bytes(self.configuration)
        self.policy, self.data_dir = folder / "policy.json", folder / "host"
        self.data_dir.mkdir()
        self.let_in(image)
        assert self.kms.credentials

    def let_in(self, image: Path) -> None:
        """Put the policy for this image on the KMS key."""
        pcrs = dict(zip(IMAGE_PCRS, image_pcrs(image), strict=True))
        self.policy.write_text(json.dumps(key_policy(pcrs, self.configuration, role=ROLE, administrator=None)))

    async def forget_log(self) -> None:
        """A host that kept the sealed vault and lost, or hides, the whole log."""
        await trio.to_thread.run_sync(asyncio.run, self._keep_only_the_vault())

    async def _keep_only_the_vault(self) -> None:
        former = Database(sqlite_url(self.data_dir))
        sealed = await SealedVault(former, origin=self.origin).load()
        former.close()
        self.data_dir = self.folder / f"host-{secrets.token_hex(3)}"
        self.data_dir.mkdir()
        begun = Database(sqlite_url(self.data_dir))
        await SealedVault(begun, origin=self.origin).keep(sealed)
        begun.close()

    def aws_environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return ours | {
            "AWS_SHARED_CREDENTIALS_FILE": str(self.kms.credentials_file),
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def image_pcrs(image: Path) -> tuple[bytes, bytes, bytes]:
    """PCR0, 1 and 2, computed from the file."""
    measured = measure(parse_eif(image.read_bytes()))
    return measured.pcr0, measured.pcr1, measured.pcr2


class Lab:
    """A running lab."""

    def __init__(self, lasting: LabFolder, machine: Machine, base_url: str, api_key: str, log: Path) -> None:
        self.lasting, self.machine, self.base_url, self.api_key, self.log = lasting, machine, base_url, api_key, log

    async def get(self, path: str, **asked: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.api_key}"}
        async with httpx.AsyncClient(trust_env=False, timeout=60, headers=headers) as client:
            return await client.get(f"{self.base_url}{path}", params=asked)

    async def ask(self, text: str) -> httpx.Response:
        """One request, unstreamed."""
        headers = {"authorization": f"Bearer {self.api_key}"}
        body = {"model": "echo", "messages": [{"role": "user", "content": text}]}
        async with httpx.AsyncClient(trust_env=False, timeout=60, headers=headers) as client:
            return await client.post(f"{self.base_url}/chat/completions", json=body)

    async def until_ready(self, *, nodes: int) -> None:
        """Until so many nodes have a quote standing; AssertionError with the host's log when that takes too long."""
        with trio.move_on_after(READY_SECONDS):
            while True:
                with suppress(httpx.TransportError):
                    answer = await self.get("/../readyz")
                    if answer.status_code == 200 and answer.json()["nodes"] >= nodes:
                        return
                await trio.sleep(0.1)
        raise AssertionError(f"not ready\n{self.log.read_text()[-4000:]}\n{self.machine.console()[-3000:]}")

    async def until_logged(self, text: str) -> str:
        """Until the host's log has this; the log."""
        with trio.move_on_after(READY_SECONDS):
            while text not in (log := self.log.read_text()):  # noqa: ASYNC110 - another process writes it
                await trio.sleep(0.1)
            return log
        raise AssertionError(f"{text!r} was not logged\n{self.log.read_text()[-4000:]}")


@asynccontextmanager
async def running_machine(
    emulator: Emulator, image: Path, *, appended: str = APPENDED, attempts: int = BOOT_ATTEMPTS
) -> AsyncIterator[Machine]:
    """An enclave; a boot that hangs is tried once more in a fresh folder, and said."""
    for attempt in range(1, attempts + 1):
        with tempfile.TemporaryDirectory(prefix="q") as folder:
            machine = booted(emulator, image, Path(folder), appended=appended)
            try:
                started = await machine.__aenter__()
            except BootError as error:
                print(f"boot {attempt} of {attempts} failed: {error}", file=sys.stderr)
                if attempt == attempts:
                    raise
                continue
            try:
                yield started
            finally:
                await machine.__aexit__(None, None, None)
            return


@asynccontextmanager
async def running_lab(emulator: Emulator, lasting: LabFolder, *, nodes: int = 1) -> AsyncIterator[Lab]:
    """KMS, enclave, host and nodes; ready to serve when there is a node."""
    async with trio.open_nursery() as nursery:
        kms_port = await nursery.start(_serve_kms, lasting)
        async with running_machine(emulator, lasting.image) as machine:
            port, log = free_port(), lasting.folder / f"host-{secrets.token_hex(3)}.log"
            api_key = _create_key(lasting)
            with log.open("wb") as file:
                host = await trio.lowlevel.open_process(
                    _host_command(lasting, machine, port, kms_port),
                    stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=lasting.aws_environment(),
                )  # fmt: skip
                lab = Lab(lasting, machine, f"http://127.0.0.1:{port}/v1", api_key, log)
                try:
                    if nodes:
                        nursery.start_soon(_agent(lasting, port).run)
                        await lab.until_ready(nodes=nodes)
                    yield lab
                finally:
                    host.kill()
                    with trio.CancelScope(shield=True):
                        await host.wait()
        nursery.cancel_scope.cancel()


async def _serve_kms(lasting: LabFolder, *, task_status: trio.TaskStatus[int]) -> None:
    kms = lasting.kms
    service = KmsService(
        key_arn=kms.key_arn,
        store=await trio.to_thread.run_sync(MotoKeyStore, kms.key),
        credentials=kms.credentials,
        policy=lambda: read_policy(lasting.policy),
        judge=qemu_judge,
    )
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listeners[0].socket.getsockname()[1])
    await serve_kms(service, tls=kms.tls(), listeners=listeners, now_ms=now_ms)


def _host_command(lasting: LabFolder, machine: Machine, port: int, kms_port: int) -> list[str]:
    return [
        sys.executable, "-m", "pinaivu_shared.command", "host", "serve", "--listen", f"127.0.0.1:{port}",
        "--enclave", machine.link, "--kms-listen", machine.kms_listen, "--kms-connect", f"127.0.0.1:{kms_port}",
        "--configuration", str(lasting.folder / "configuration.json"), "--data-dir", str(lasting.data_dir),
        "--operator-key-file", str(lasting.operator_key_file),
    ]  # fmt: skip


def _create_key(lasting: LabFolder) -> str:
    command = [
        sys.executable, "-m", "pinaivu_shared.command", "host", "create-key", "--data-dir", str(lasting.data_dir),
        "--account", "lab", "--credit", "10", "--create", "--operator-key-file", str(lasting.operator_key_file),
        "--configuration", str(lasting.folder / "configuration.json"),
    ]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _agent(lasting: LabFolder, port: int) -> Agent:
    settings = load_settings(
        {
            "gateway": f"ws://127.0.0.1:{port}", "trust": "/dev/null", "data_dir": str(lasting.folder / "node"),
            "operator": "lab", "input_price": "20000", "output_price": "60000", "engine": lasting.engine,
            "drain_seconds": "1",
        },
        None,
    )  # fmt: skip
    return build_agent(settings, qemu_verify)
