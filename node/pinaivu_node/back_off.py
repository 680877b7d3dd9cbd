"""Growing pauses between attempts, spread by chance so that many nodes do not come back in one moment."""

from collections.abc import Callable
from typing import Final

FIRST_SECONDS: Final = 0.2
LAST_SECONDS: Final = 10.0


class BackOff:
    """Pauses of 0.2 s, doubling up to 10 s, each shortened at random by at most half."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        """`jitter` gives numbers from 0 to 1."""
        self._jitter, self._step = jitter, FIRST_SECONDS

    def next_pause(self) -> float:
        """Seconds to wait before the next attempt."""
        step, self._step = self._step, min(self._step * 2, LAST_SECONDS)
        return step * (1 + self._jitter()) / 2

    def reset(self) -> None:
        """Begin again with short pauses, after a success."""
        self._step = FIRST_SECONDS
