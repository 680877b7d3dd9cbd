"""The enclave's time stands on its security module: carried between timestamps, never back, ended when it disagrees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.attestation.forge import PKI

from pinaivu_enclave.clock import MAX_DEVIATION_MS, AnchoredClock, ClockTamperedError
from pinaivu_enclave.nsm.timestamp import ask_timestamp_ms
from pinaivu_simulator.nsm import SimulatedNsm

UNIX_MS = 1_795_000_000_000
BOOT_MS = 5_000


class Machine:
    """A module's time and a kernel's ticks, each moved by the test. Asking the module takes `delay_ms` of both."""

    def __init__(self) -> None:
        self.unix_ms, self.boot_ms, self.delay_ms = UNIX_MS, BOOT_MS, 0
        self.nsm = SimulatedNsm(PKI, now_ms=self._asked, entropy=lambda size: bytes(range(1, size + 1)))
        self.clock = AnchoredClock(self.nsm, ticks_ms=lambda: self.boot_ms)

    def _asked(self) -> int:
        made_ms = self.unix_ms
        self.unix_ms += self.delay_ms
        self.boot_ms += self.delay_ms
        return made_ms

    def passes(self, *, unix_ms: int, boot_ms: int) -> None:
        self.unix_ms += unix_ms
        self.boot_ms += boot_ms


def test_time_starts_at_the_modules_and_goes_with_the_kernels_ticks() -> None:
    machine = Machine()
    assert machine.clock.now_ms() == UNIX_MS
    machine.passes(unix_ms=0, boot_ms=1_234)
    assert machine.clock.now_ms() == UNIX_MS + 1_234


@pytest.mark.parametrize("off_ms", [MAX_DEVIATION_MS, -MAX_DEVIATION_MS, 1, -1, 0])
def test_a_small_deviation_is_corrected_and_said(off_ms: int) -> None:
    machine = Machine()
    machine.passes(unix_ms=240_000 + off_ms, boot_ms=240_000)
    assert machine.clock.check() == off_ms
    machine.passes(unix_ms=10_000, boot_ms=10_000)
    assert machine.clock.now_ms() == machine.unix_ms
    assert machine.clock.check() == 0


@pytest.mark.parametrize("off_ms", [MAX_DEVIATION_MS + 1, -MAX_DEVIATION_MS - 1, 3_600_000, -3_600_000])
def test_a_clock_that_somebody_played_with_ends_the_enclave(off_ms: int) -> None:
    machine = Machine()
    machine.passes(unix_ms=240_000 + off_ms, boot_ms=240_000)
    with pytest.raises(ClockTamperedError) as caught:
        machine.clock.check()
    assert caught.value.deviation_ms == off_ms


def test_a_slow_module_is_not_taken_for_a_wrong_clock() -> None:
    machine = Machine()
    machine.delay_ms = 60_000
    assert machine.clock.check() == 0


@given(st.lists(st.tuples(st.integers(0, 100_000), st.integers(-MAX_DEVIATION_MS, MAX_DEVIATION_MS)), max_size=20))
def test_time_never_goes_back(steps: list[tuple[int, int]]) -> None:
    machine = Machine()
    latest_ms = machine.clock.now_ms()
    for passed_ms, off_ms in steps:
        machine.passes(unix_ms=max(0, passed_ms + off_ms), boot_ms=passed_ms)
        machine.clock.check()
        assert machine.clock.now_ms() >= latest_ms
        latest_ms = machine.clock.now_ms()


def test_the_timestamp_is_the_documents() -> None:
    machine = Machine()
    assert ask_timestamp_ms(machine.nsm) == UNIX_MS
