"""How the node stands: asked of the enclave in every session, and put together for the status file.

The enclave signs its reports, so a host can hold them back and nothing else; their time tells how old they are.
"""

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import msgspec
import trio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pinaivu_node.admission import Market
from pinaivu_node.keys import Identity
from pinaivu_node.status import WRITE_SECONDS, EngineStatus, HeardReport, NodeStatus, State
from pinaivu_shared.canonical import decode
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.signed import Signed, verify_enclave
from pinaivu_shared.terms import NodeReport
from pinaivu_shared.wire.node import FromNode, RequestReport

REPORT_SECONDS: Final = 10
PAUSE_SECONDS: Final = 1
"""Between two questions, and between two writings; by then the enclave has settled the job that was the occasion."""


def check_report(signed: Signed, market: Market, identity: Identity, *, now_ms: int) -> HeardReport:
    """What the enclave of this session says about this node; VerificationError for anything else."""
    payload = verify_enclave("node-report", signed, market.receipt_key)
    report = decode(payload, NodeReport, check="node report")
    if (report.session, report.node_id) != (market.session, identity.node_id):
        raise VerificationError("node report", f"is for {report.node_id} in {report.session}")
    spki = market.receipt_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return HeardReport(report, signed.signature.hex(), hashlib.sha256(spki).hexdigest(), now_ms)


class Reporting:
    """Asks for reports in one session: now and then, and soon after something happened."""

    def __init__(
        self,
        market: Market,
        identity: Identity,
        *,
        send: Callable[[FromNode], Awaitable[None]],
        hear: Callable[[HeardReport], None],
    ) -> None:
        self._market, self._identity, self._send, self._hear = market, identity, send, hear
        self._occasion = trio.Event()

    def take(self, signed: Signed, *, now_ms: int) -> None:
        """Pass an answer on; VerificationError when it is not the enclave's, about this node in this session."""
        self._hear(check_report(signed, self._market, self._identity, now_ms=now_ms))

    def something_happened(self) -> None:
        """A job ended, a quote stands: the next report says something new."""
        self._occasion.set()

    async def ask(self) -> None:
        """Ask until cancelled, or until there is nowhere to send to."""
        with suppress(trio.ClosedResourceError):
            while True:
                self._occasion = trio.Event()
                await self._send(RequestReport())
                with trio.move_on_after(REPORT_SECONDS - PAUSE_SECONDS):
                    await self._occasion.wait()
                await trio.sleep(PAUSE_SECONDS)


class StatusBoard:
    """What the node knows about itself. `keep` has it written: at every change, at most once a second."""

    def __init__(
        self,
        beginning: NodeStatus,
        *,
        engines: Callable[[], tuple[EngineStatus, ...]],
        now_ms: Callable[[], int],
        write: Callable[[NodeStatus], None],
    ) -> None:
        self._status, self._engines, self._now_ms, self._write = beginning, engines, now_ms, write
        self._jobs: Callable[[], int] = _no_jobs
        self._changed = trio.Event()

    def connect(self) -> None:
        """The gateway is dialled, again where an earlier session had its end: why stays to be read."""
        self._turn("connecting", detail=self._status.detail)

    def open(self, session: str) -> None:
        """A session with the market has begun."""
        self._turn("connected", session=session)

    def end(self, detail: str) -> None:
        """The session has ended, or none began; another follows after a pause."""
        self._turn("waiting", detail=detail)

    def drain(self) -> None:
        """The node takes no more jobs; its session goes on until those it has are done."""
        self._change(state="draining", since_ms=self._now_ms())

    def count_jobs(self, jobs: Callable[[], int]) -> None:
        """How many jobs of this session run; asked whenever the status is written."""
        self._jobs = jobs

    def hear(self, heard: HeardReport) -> None:
        """A report that was verified. One that is older than the last of its session was overtaken and says nothing."""
        known = self._status.heard.report if self._status.heard else None
        if known and known.session == heard.report.session and known.reported_ms > heard.report.reported_ms:
            return
        self._change(heard=heard)

    async def keep(self) -> None:
        """Write until cancelled, and once more then."""
        try:
            while True:
                self._changed = trio.Event()
                self._write_now()
                await trio.sleep(PAUSE_SECONDS)
                with trio.move_on_after(WRITE_SECONDS - PAUSE_SECONDS):
                    await self._changed.wait()
        finally:
            self._turn("stopped")
            self._write_now()

    def _turn(self, state: State, *, session: str = "", detail: str = "") -> None:
        self._jobs = _no_jobs
        self._change(state=state, session=session, detail=detail, since_ms=self._now_ms())

    def _change(self, **changes: object) -> None:
        self._status = msgspec.structs.replace(self._status, **changes)
        self._changed.set()

    def _write_now(self) -> None:
        now = {"written_ms": self._now_ms(), "jobs_running": self._jobs(), "engines": self._engines()}
        self._write(msgspec.structs.replace(self._status, **now))


def _no_jobs() -> int:
    return 0
