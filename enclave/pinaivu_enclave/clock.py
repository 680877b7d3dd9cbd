"""The enclave's time: the security module's timestamps, carried from one to the next by CLOCK_BOOTTIME.

The module's timestamps come from the hypervisor and nobody on the parent can set them (nitro.md part E, "Time"). The
kernel's wall clock is not asked here: a parent that could shift it would decide when quotes and leases end. Every few
minutes the carried time is held against a new timestamp; one that is off by more than two seconds ends the enclave.
"""

import time
from collections.abc import Callable
from typing import Final, Protocol

from pinaivu_enclave.nsm import NsmDevice
from pinaivu_enclave.nsm.timestamp import ask_timestamp_ms

MAX_DEVIATION_MS: Final = 2_000
CHECK_SECONDS: Final = 240.0


class Clock(Protocol):
    """Where the coordinator's time comes from."""

    def now_ms(self) -> int:
        """Milliseconds since 1970; never less than before."""
        ...

    def check(self) -> int:
        """Hold the time against the module's; the deviation in milliseconds, or ClockTamperedError. Blocks."""
        ...


class ClockTamperedError(Exception):
    """Carried time and the module's disagree. The enclave ends: it must not sign with a time it does not know."""

    def __init__(self, deviation_ms: int) -> None:
        super().__init__(f"the clock is {deviation_ms} ms off the security module's, {MAX_DEVIATION_MS} ms are allowed")
        self.deviation_ms = deviation_ms


def boottime_ms() -> int:
    """Milliseconds since the enclave's kernel started, suspensions included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class AnchoredClock:
    """A `Clock` that stands on one module. Making it and `check` block on the module; `now_ms` does not."""

    def __init__(self, nsm: NsmDevice, ticks_ms: Callable[[], int] = boottime_ms) -> None:
        self._nsm, self._ticks_ms = nsm, ticks_ms
        _, timestamp_ms, after_ms = self._ask()
        self._offset_ms = timestamp_ms - after_ms
        self._latest_ms = timestamp_ms

    def now_ms(self) -> int:
        """See `Clock`."""
        self._latest_ms = max(self._latest_ms, self._offset_ms + self._ticks_ms())
        return self._latest_ms

    def check(self) -> int:
        """See `Clock`: anchors anew, and the deviation is positive where ours was slow.

        A timestamp made while the module was asked deviates by nothing.
        """
        before_ms, timestamp_ms, after_ms = self._ask()
        earliest_ms, latest_ms = self._offset_ms + before_ms, self._offset_ms + after_ms
        deviation_ms = min(timestamp_ms - earliest_ms, 0) + max(timestamp_ms - latest_ms, 0)
        if abs(deviation_ms) > MAX_DEVIATION_MS:
            raise ClockTamperedError(deviation_ms)
        self._offset_ms += deviation_ms
        return deviation_ms

    def _ask(self) -> tuple[int, int, int]:
        before_ms = self._ticks_ms()
        return before_ms, ask_timestamp_ms(self._nsm), self._ticks_ms()
