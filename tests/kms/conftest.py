"""The enclave of each test of the vault."""

import logging
import random
from collections.abc import AsyncIterator

import pytest

from pinaivu_shared.attestation.policy import CONFIGURATION_PCR
from pinaivu_simulator.nsm import SimulatedNsm

from .booted import PKI, START_MS, TOKEN, Booted
from .lab import running_host, sign


@pytest.fixture
async def booted(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Booted]:
    nsm = SimulatedNsm(PKI, now_ms=lambda: START_MS, entropy=random.Random(2).randbytes)
    nsm.extend_pcr(CONFIGURATION_PCR, bytes(48))
    nsm.lock_pcrs(32)
    caplog.set_level(logging.DEBUG, logger="pinaivu_enclave")
    async with running_host() as host:
        host.sign = lambda asked: sign(asked, token=TOKEN)
        yield Booted(host, nsm, caplog)
