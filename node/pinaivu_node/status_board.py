"""The node's status while it runs, put together of what its parts say, and written whenever that changes."""

from collections.abc import Callable

import msgspec
import trio

from pinaivu_node.status import PAUSE_SECONDS, WRITE_SECONDS, EngineStatus, HeardReport, NodeStatus, State


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
