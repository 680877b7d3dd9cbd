"""An enclave whose configuration is measured and whose vault is to be opened, through a host of the tests."""

import base64
import datetime as dt
import json
import random
from dataclasses import dataclass, field

import pytest

from pinaivu_enclave.kms.vault import KmsVault
from pinaivu_enclave.vault import OpenedVault, VaultError
from pinaivu_simulator.nsm import SimulatedNsm
from pinaivu_simulator.pki import SimulatedPki

from .lab import Answer, Host, configuration, everything_in

CONFIGURATION = configuration()
START_MS = 1_795_000_000_000
PKI = SimulatedPki.create(now=dt.datetime.fromtimestamp(START_MS / 1000, dt.UTC), entropy=random.Random(1).randbytes)
TOKEN = "session-token-of-the-host"
FIRST_SECRET = b"\x01" * 32


@dataclass
class Booted:
    """A vault in an enclave whose configuration is measured, its host, and the delays that chance was asked for."""

    host: Host
    nsm: SimulatedNsm
    log: pytest.LogCaptureFixture
    delays: list[tuple[float, float]] = field(default_factory=list)

    async def open(self, sealed: bytes = b"") -> OpenedVault:
        return await KmsVault(self.nsm, self.host, draw=self._draw).open(CONFIGURATION, sealed)

    async def refused(self, sealed: bytes = b"") -> str:
        """What the host is told. Neither that nor the log holds a secret, a token or a signature."""
        with pytest.raises(VaultError) as caught:
            await self.open(sealed)
        told = " ".join([*everything_in(caught.value), *(json.dumps(kv) for kv in self.lines())])
        for secret in self.host.kms.secrets.values():
            for form in (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]):
                assert form not in told
        assert TOKEN not in told
        assert "Signature=" not in told
        return str(caught.value)

    def lines(self) -> list[dict[str, object]]:
        """The keys and values of every line logged."""
        return [{"event": record.getMessage(), **record.__dict__["kv"]} for record in self.log.records]

    def script(self, *answers: Answer) -> None:
        self.host.kms.script[:] = answers

    async def works_again(self) -> None:
        """The vault is none the worse for what happened."""
        self.host.kms.script.clear()
        opened = await self.open()
        assert opened.secret == self.host.kms.secrets[opened.sealed]

    def _draw(self, low: float, high: float) -> float:
        self.delays.append((low, high))
        return 0.0
