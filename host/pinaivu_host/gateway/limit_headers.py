"""How full a key's windows are, as OpenAI's `x-ratelimit-*` headers say it."""

from pinaivu_host.gateway.error_table import Header
from pinaivu_host.store.limits import Levels


def headers_of(levels: Levels) -> tuple[Header, ...]:
    """Plain numbers, and how long until nothing is used any more; nothing of what has no limit."""
    return tuple(
        (f"x-ratelimit-{what}-{measure}", value)
        for measure, level in levels.items()
        for what, value in (
            ("limit", str(level.limit)),
            ("remaining", str(level.remaining)),
            ("reset", format_duration(level.full_ms)),
        )
    )


def format_duration(duration_ms: int) -> str:
    """Go's text of a duration, which `time.ParseDuration` reads: `12ms`, `1s`, `1m0.5s`, `6m0s`, `1h0m0s`."""
    if 0 < duration_ms < 1000:
        return f"{duration_ms}ms"
    minutes, left_ms = divmod(duration_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, fraction = divmod(left_ms, 1000)
    seconds = f"{whole}.{fraction:03d}".rstrip("0").rstrip(".") if fraction else str(whole)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
