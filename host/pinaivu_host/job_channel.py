"""What one node says about one job, in order, between its connection and the job that reads it.

Bounded: a node's connection carries many jobs, so a job whose caller reads too slowly is cancelled rather than
holding up the others.

The first proof is the node's last word. One that comes after it and says something else is kept, whoever still reads:
two proofs of one award are evidence against the node (`wire.link.ReportProof`).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from pinaivu_shared.signed import Signed
from pinaivu_shared.wire.node import Accept, Decline, Delta, Prove

JobMessage = Accept | Decline | Delta | Prove
MESSAGES_MAX: Final = 8192
BYTES_MAX: Final = 4 * 1024 * 1024


class JobChannel:
    """One reader, one writer, both in the event loop. After `closed` nothing more comes but a `second_proof`.

    `overflowed_at` is when more had come than is held, on the event loop's clock.
    """

    __slots__ = (
        *("_cancel", "_held_bytes", "_messages", "_proof", "_waiter", "_woken"),
        *("cancelled", "closed", "heard_bytes", "overflowed_at", "second_proof"),
    )

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._messages: deque[JobMessage] = deque()
        self._held_bytes = 0
        self._proof: Signed | None = None
        self.second_proof: Signed | None = None
        self.heard_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._woken = False
        self.closed = False
        self.cancelled = False
        self.overflowed_at: float | None = None

    def put(self, message: JobMessage, size_bytes: int) -> None:
        """From the node. Past the bound the job is cancelled there, and all but its proof is dropped."""
        if isinstance(message, Prove):
            self._note_proof(message.proof)
        if self.closed:
            return
        self._held_bytes += size_bytes
        self.heard_bytes += size_bytes
        if len(self._messages) >= MESSAGES_MAX or self._held_bytes > BYTES_MAX:
            self._overflow()
        if self.overflowed_at is None or isinstance(message, Prove):
            self._messages.append(message)
        if isinstance(message, Decline | Prove):
            self.closed = True
        self.wake()

    def close(self) -> None:
        """The node is gone, or nobody reads any more."""
        self.closed = True
        self.wake()

    def cancel(self) -> None:
        """Tell the node to stop and prove what it generated; once is enough."""
        if not self.cancelled and not self.closed:
            self.cancelled = True
            self._cancel()

    def wake(self) -> None:
        """Let the reader look again."""
        self._woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take(self) -> list[JobMessage]:
        """Everything that came since."""
        messages = list(self._messages)
        self._messages.clear()
        self._held_bytes = 0
        return messages

    def _overflow(self) -> None:
        if self.overflowed_at is None:
            self.overflowed_at = asyncio.get_running_loop().time()
        self.cancel()

    def _note_proof(self, proof: Signed) -> None:
        if self._proof is None:
            self._proof = proof
        elif self.second_proof is None and proof.payload != self._proof.payload:
            self.second_proof = proof

    async def wait(self, limit_s: float) -> None:
        """Return when woken, or after `limit_s` seconds."""
        if not self._woken:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(max(limit_s, 0.0), self.wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        self._woken = False
