"""Hearing of a change without missing one: take `next()` first, then look, then wait."""

import trio


class Change:
    """Something that changes now and then, for any number of those who wait."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def next(self) -> trio.Event:
        """Set at the next change from now on."""
        return self._event

    def announce(self) -> None:
        """Tell all who wait."""
        self._event.set()
        self._event = trio.Event()
