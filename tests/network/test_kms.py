"""The enclave's vault, the host's bridge and the simulated KMS together: what goes wrong, and what is said of it."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from botocore.credentials import Credentials
from tests.simulator.kms_bench import enclave

from pinaivu_enclave.kms.vault import KmsVault
from pinaivu_enclave.vault import OpenedVault, VaultError
from pinaivu_host.kms_bridge import KmsBridge
from pinaivu_host.kms_policy import key_policy
from pinaivu_host.listening_address import parse_listening_address
from pinaivu_shared.attestation.policy import configuration_pcr
from pinaivu_shared.configuration import KmsTerms, parse_configuration
from pinaivu_shared.wire.ports import KMS_PORT
from pinaivu_simulator.clock import now_ms
from pinaivu_simulator.enclave import UnixParent
from pinaivu_simulator.kms.fault import KmsFault, dependency_timeout, internal, throttled
from pinaivu_simulator.kms.folder import KmsFolder
from pinaivu_simulator.kms.judge import PlatformJudge
from pinaivu_simulator.kms.policy import parse_policy
from pinaivu_simulator.kms.server import serve_kms
from pinaivu_simulator.kms.service import KmsService
from pinaivu_simulator.kms.store import MotoKeyStore
from pinaivu_simulator.market import market_configuration
from pinaivu_simulator.nsm import ROLE, SIMULATED_MEASUREMENTS

pytestmark = pytest.mark.trio


class Stage:
    """A KMS with one key, a host that bridges to it, and an enclave whose configuration names both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kms = KmsFolder(folder)
        self.terms = KmsTerms(key_arn=self.kms.key_arn, tls_root=self.kms.tls_root.hex())
        self.raw = market_configuration("stage.test/log", ["m"], kms=self.terms)
        self.store = MotoKeyStore(self.kms.key)

    def service(self, *faults: KmsFault | None, **changes: Any) -> KmsService:
        written = key_policy(SIMULATED_MEASUREMENTS, self.raw, role=ROLE, administrator=None)
        policy = parse_policy(json.dumps(written).encode())
        parts: dict[str, Any] = {
            "key_arn": self.kms.key_arn,
            "store": self.store,
            "credentials": self.kms.credentials,
            "policy": lambda: policy,
            "judge": PlatformJudge(self.kms.platform.pki().trust_root, lambda: policy),
            "faults": iter(faults),
        }
        return KmsService(**{**parts, **changes})

    def caller(self) -> Credentials:
        """The host's credentials."""
        access_key, known = next(iter(self.kms.credentials.items()))
        return Credentials(access_key, known.secret)

    @asynccontextmanager
    async def bridge(self, port: int, find: Callable[[], Credentials | None]) -> AsyncIterator[None]:
        """The host's bridge, in an event loop of its own."""
        started, stop = threading.Event(), asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        async def run() -> None:
            address = parse_listening_address(f"unix:{self.folder}/parent_{KMS_PORT}")
            bridge = KmsBridge(address, self.terms, find_credentials=find, connect_to=("127.0.0.1", port))
            bridge.start()
            loops.append(asyncio.get_running_loop())
            started.set()
            await stop.wait()
            await bridge.stop()

        thread = threading.Thread(target=lambda: asyncio.run(run()))
        thread.start()
        await trio.to_thread.run_sync(started.wait)
        try:
            yield
        finally:
            loops[0].call_soon_threadsafe(stop.set)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(thread.join)

    @asynccontextmanager
    async def vault(
        self,
        service: KmsService,
        *,
        measured: bytes | None = None,
        find: Callable[[], Credentials | None] | None = None,
        ahead_ms: int = 0,
    ) -> AsyncIterator["Enclave"]:
        """An enclave beside running services; `ahead_ms` is how far KMS's clock is from the host's."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        raw = measured or self.raw
        nsm = enclave(raw, pki=self.kms.platform.pki(), now_ms=now_ms() + ahead_ms)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve, service, self.kms, listeners, ahead_ms)
            async with self.bridge(port, find or self.caller):
                vault = KmsVault(nsm, UnixParent(self.folder / "parent"), draw=lambda _low, _high: 0.0)
                yield Enclave(vault, raw)
            nursery.cancel_scope.cancel()


class Enclave:
    """A vault and the configuration that it was measured with."""

    def __init__(self, vault: KmsVault, raw: bytes) -> None:
        self._vault, self._configuration = vault, parse_configuration(raw)

    async def open(self, sealed: bytes = b"") -> OpenedVault:
        return await self._vault.open(self._configuration, sealed)


async def _serve(service: KmsService, kms: KmsFolder, listeners: list[trio.SocketListener], ahead_ms: int) -> None:
    await serve_kms(service, tls=kms.tls(), listeners=listeners, now_ms=lambda: now_ms() + ahead_ms)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def test_a_later_boot_gets_the_secret_of_the_first(stage: Stage) -> None:
    async with stage.vault(stage.service()) as first:
        made = await first.open()
    async with stage.vault(stage.service()) as second:
        found = await second.open(made.sealed)
    assert found == made
    assert len(made.secret) == 32


@pytest.mark.parametrize("fault", [throttled, internal, dependency_timeout], ids=lambda fault: fault.__name__)
async def test_what_may_pass_is_tried_again_and_logged(
    stage: Stage, fault: Callable[[], KmsFault], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with stage.vault(stage.service(fault(), fault(), None)) as enclave_:
        assert len((await enclave_.open()).secret) == 32
    attempts = [record for record in caplog.records if record.getMessage() == "no vault secret from KMS"]
    assert [record.kv["aws_code"] for record in attempts] == [fault().code] * 2  # type: ignore[attr-defined]  # ours


async def test_expired_credentials_are_named_as_the_hosts(stage: Stage) -> None:
    ended = {key: replace(known, expires_at_ms=now_ms() - 1) for key, known in stage.kms.credentials.items()}
    async with stage.vault(stage.service(credentials=ended)) as enclave_:
        with pytest.raises(VaultError, match="credentials have expired"):
            await enclave_.open()


async def test_a_host_whose_clock_is_wrong_is_told_so(stage: Stage) -> None:
    async with stage.vault(stage.service(), ahead_ms=600_000) as enclave_:
        with pytest.raises(VaultError, match="clock"):
            await enclave_.open()


async def test_another_configuration_is_denied_and_told_its_own_registers(stage: Stage) -> None:
    other = market_configuration("other.test/log", ["m"], kms=stage.terms)
    async with stage.vault(stage.service(), measured=other) as enclave_:
        with pytest.raises(VaultError, match="AccessDenied") as caught:
            await enclave_.open()
    assert configuration_pcr(other).hex() in str(caught.value)


async def test_a_host_without_credentials_says_so_to_the_enclave(stage: Stage) -> None:
    async with stage.vault(stage.service(), find=lambda: None) as enclave_:
        with pytest.raises(VaultError, match="has no AWS credentials: give the host a role"):
            await enclave_.open()


async def test_a_sealed_vault_of_another_log_does_not_open(stage: Stage) -> None:
    """The encryption context names the log, so a host cannot hand over what it had sealed elsewhere."""
    elsewhere = stage.store.generate({"pinaivu:origin": "other.test/log", "pinaivu:purpose": "vault"})
    async with stage.vault(stage.service()) as enclave_:
        with pytest.raises(VaultError, match="InvalidCiphertext"):
            await enclave_.open(elsewhere.ciphertext)


async def test_a_damaged_sealed_vault_does_not_open(stage: Stage) -> None:
    async with stage.vault(stage.service()) as enclave_:
        made = await enclave_.open()
        with pytest.raises(VaultError, match="InvalidCiphertext"):
            await enclave_.open(made.sealed[:-1] + bytes([made.sealed[-1] ^ 1]))
        assert (await enclave_.open(made.sealed)).secret == made.secret
