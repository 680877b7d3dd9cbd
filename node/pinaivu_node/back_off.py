"""Growing pauses between attempts, spread by chance so that many nodes do not come back in one moment."""

from collections.abc import Callable
from typing import Final

FIRST_SECONDS: Final = 0.2
LAST_SECONDS: Final = 10.0


class BackOff:
    """Pauses that double from the first up to the last, each shortened at random by at most half."""

    def __init__(
        self, jitter: Callable[[], float], *, first_seconds: float = FIRST_SECONDS, last_seconds: float = LAST_SECONDS
    ) -> None:
        """`jitter` gives numbers from 0 to 1."""
        self._jitter, self._first, self._last = jitter, first_seconds, last_seconds
        self._step = first_seconds

    def next_pause(self) -> float:
        """Seconds to wait before the next attempt."""
        step, self._step = self._step, min(self._step * 2, self._last)
        return step * (1 + self._jitter()) / 2

    def reset(self) -> None:
        """Begin again with short pauses, after a success."""
        self._step = self._first
