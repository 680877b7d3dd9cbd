"""A bound on work that everybody may ask for: few at a time, some more wait, the rest is turned away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from pinaivu_host.gateway.error_table import OVERLOADED
from pinaivu_host.gateway.errors import ApiError

CONCURRENT_MAX: Final = 2
WAITING_MAX: Final = 64
"""Those whose turn has come are among them."""


class FewAtOnce:
    """Turns at one kind of work; `subject` is what an error calls it, in the plural."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._slots = asyncio.Semaphore(CONCURRENT_MAX)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, which lasts as long as the context; ApiError (503) where too many wait."""
        if self._waiting >= WAITING_MAX:
            raise ApiError(OVERLOADED, f"too many {self._subject} are asked for, try again")
        self._waiting += 1
        try:
            async with self._slots:
                yield
        finally:
            self._waiting -= 1
