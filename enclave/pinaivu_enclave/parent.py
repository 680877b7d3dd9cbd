"""The parent instance as the enclave dials it. Nobody there is trusted for anything."""

from typing import Protocol

import trio


class Parent(Protocol):
    """Opens connections from the enclave to its parent instance."""

    async def connect(self, port: int) -> trio.abc.Stream:
        """A stream to whoever listens on this port of the parent (`wire.ports`); OSError when nobody does."""
        ...
