"""The kernel is seeded from the module, and a module that gives nothing random ends the enclave."""

import pytest
from tests.attestation.forge import PKI

from pinaivu_enclave import entropy
from pinaivu_simulator.nsm import SimulatedNsm


def nsm_giving(seed: bytes) -> SimulatedNsm:
    return SimulatedNsm(PKI, now_ms=lambda: 1_795_000_000_000, entropy=lambda size: (seed * size)[:size])


@pytest.mark.parametrize("seed", [b"\0", b"\xff", b"abc"])
def test_a_module_that_repeats_itself_is_not_believed(seed: bytes) -> None:
    with pytest.raises(OSError, match=r"256 bytes, [13] of them different"):
        entropy.seed_kernel(nsm_giving(seed))
