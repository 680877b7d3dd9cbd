"""The host's wall clock, for timestamps that people read; deadlines use the event loop's own clock."""

import time


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
