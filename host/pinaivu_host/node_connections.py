"""The registered nodes and their jobs. Beyond one machine this interface is what a message broker takes over."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from pinaivu_host.job_channel import JobChannel
from pinaivu_shared.signed import Signed
from pinaivu_shared.wire.link import Awarded
from pinaivu_shared.wire.node import Accept, Cancel, Decline, Delta, NodeMessage, Offer, Prove, encode

logger = logging.getLogger(__name__)

OUTGOING_MESSAGES_MAX: Final = 4096
OUTGOING_BYTES_MAX: Final = 64 * 1024 * 1024
LATE_PROOFS_MAX: Final = 256
"""Proofs of jobs that have ended, on their way to the enclave. An honest node owes one per job, and few come late."""


class NodeConnection:
    """A registered node: its session, the jobs it runs, the models it offers and until when, what it is being sent."""

    def __init__(self, *, session: str, node_id: str, close: Callable[[int, str], None]) -> None:
        self.session, self.node_id = session, node_id
        self.jobs: Final[dict[str, JobChannel]] = {}
        self.offered_until_ms: Final[dict[str, int]] = {}
        self.late_proofs: Final[asyncio.Queue[Prove]] = asyncio.Queue(LATE_PROOFS_MAX)
        self._close = close
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue(OUTGOING_MESSAGES_MAX)
        self._outgoing_bytes = 0

    def send(self, message: NodeMessage) -> None:
        """Queue a message; a node that does not read is closed."""
        raw = encode(message)
        self._outgoing_bytes += len(raw)
        if self._outgoing.full() or self._outgoing_bytes > OUTGOING_BYTES_MAX:
            self.close(1008, "reads_too_slowly")
        else:
            self._outgoing.put_nowait(raw)

    async def next_outgoing(self) -> bytes:
        """The next message for the node's socket."""
        raw = await self._outgoing.get()
        self._outgoing_bytes -= len(raw)
        return raw

    def offer(self, awarded: Awarded, request: bytes, salt: bytes) -> JobChannel:
        """Offer an award; the channel brings what the node says to it."""
        request_id = awarded.request_id
        channel = JobChannel(lambda: self.send(Cancel(request_id)))
        self.jobs[request_id] = channel
        self.send(Offer(awarded.award, request, salt))
        return channel

    def hear(self, message: Accept | Decline | Delta | Prove, size_bytes: int) -> None:
        """Pass on what the node says about a job; about jobs that have ended only a proof is of interest."""
        channel = self.jobs.get(message.request_id)
        if channel is not None:
            channel.put(message, size_bytes)
        elif not isinstance(message, Prove):
            return
        elif self.late_proofs.full():
            self.close(1008, "too_many_late_proofs")
        else:
            self.late_proofs.put_nowait(message)

    def release(self, request_id: str) -> None:
        """The job has ended, its receipt is written or never will be."""
        self.jobs.pop(request_id, None)

    def close(self, code: int, reason: str) -> None:
        """End the connection with this WebSocket close code."""
        self._close(code, reason)

    def end_jobs(self) -> None:
        """The connection is gone: every job on it hears so."""
        for channel in self.jobs.values():
            channel.close()
        self.jobs.clear()


class NodeConnections:
    """Registered nodes by session, and which of them runs which job."""

    def __init__(self) -> None:
        self._by_session: dict[str, NodeConnection] = {}
        self._running: dict[str, tuple[NodeConnection, JobChannel]] = {}

    def add(self, connection: NodeConnection) -> None:
        """Register; an older connection of the same node is closed, its session has ended in the enclave."""
        for other in [one for one in self._by_session.values() if one.node_id == connection.node_id]:
            other.close(1000, "replaced")
        self._by_session[connection.session] = connection

    def remove(self, connection: NodeConnection) -> None:
        """Forget a connection that ended; its jobs hear so."""
        self._by_session.pop(connection.session, None)
        connection.end_jobs()

    def offer(self, awarded: Awarded, request: bytes, salt: bytes) -> JobChannel | None:
        """Offer an award to its node, None if that is gone. The node that failed the job before has no say any more."""
        self.release(awarded.request_id)
        connection = self._by_session.get(awarded.session)
        if connection is None:
            return None
        channel = connection.offer(awarded, request, salt)
        self._running[awarded.request_id] = connection, channel
        return channel

    def release(self, request_id: str) -> Signed | None:
        """The job is settled, or never will be. A second proof of its node, if there is one, is evidence."""
        running = self._running.pop(request_id, None)
        if running is None:
            return None
        connection, channel = running
        connection.release(request_id)
        return channel.second_proof

    def close_all(self, code: int, reason: str) -> None:
        """End every connection, so that the nodes register anew."""
        for connection in list(self._by_session.values()):
            connection.close(code, reason)

    def offered_models(self, now_ms: int) -> list[str]:
        """Models for which some connected node has a standing quote, sorted."""
        offered = {
            model
            for connection in self._by_session.values()
            for model, until_ms in connection.offered_until_ms.items()
            if until_ms > now_ms
        }
        return sorted(offered)

    def offering(self, now_ms: int) -> int:
        """How many nodes have a standing quote."""
        return sum(
            any(until_ms > now_ms for until_ms in connection.offered_until_ms.values())
            for connection in self._by_session.values()
        )

    def __len__(self) -> int:
        """How many nodes are registered."""
        return len(self._by_session)
