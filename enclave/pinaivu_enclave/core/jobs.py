"""Jobs: which command is legal in which phase, and what the coordinator remembers of a job until its receipt."""

from enum import Enum, auto
from typing import Final

import msgspec

from pinaivu_enclave.core.commands import IllegalCommandError, UnknownSubjectError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.signed import Signed
from pinaivu_shared.terms import Award
from pinaivu_shared.wire.link import AcceptAward, OpenJob, ReportFailure, SettleJob

SETTLEMENT_GRACE_MS: Final = 60_000
"""More than a host takes to give up on a stalled caller, to wait for a proof and to reconnect."""


class Phase(Enum):
    """Where a job stands between its first award and its receipt; a settled job is forgotten."""

    AWARDED = auto()
    RUNNING = auto()


JobCommand = AcceptAward | ReportFailure | SettleJob
LEGAL: Final[dict[tuple[type[JobCommand], Phase], Phase | None]] = {
    (AcceptAward, Phase.AWARDED): Phase.RUNNING,
    (ReportFailure, Phase.AWARDED): Phase.AWARDED,
    (ReportFailure, Phase.RUNNING): Phase.AWARDED,
    (SettleJob, Phase.AWARDED): None,
    (SettleJob, Phase.RUNNING): None,
}
"""(command, phase) -> next phase; None ends the job. What is not in the table is refused."""


class Job(msgspec.Struct, kw_only=True):
    """An open job: what was asked, the award in force and the nodes that failed it."""

    request: OpenJob
    phase: Phase
    award: Award
    signed_award: Signed
    public_key: bytes
    transcript: bytes
    bids: int
    deadline_ms: int
    failed: frozenset[str] = frozenset()

    @property
    def award_digest(self) -> str:
        """The digest of the award's payload bytes, which acceptance and proof name."""
        return digest_of(self.signed_award.payload)


class Jobs:
    """Open jobs by request id, in the order of their deadlines."""

    def __init__(self) -> None:
        self._open: dict[str, Job] = {}

    def __len__(self) -> int:
        """How many jobs are open."""
        return len(self._open)

    def open(self, job: Job) -> None:
        """Remember a job that got its first award."""
        assert job.request.request_id not in self._open
        self._open[job.request.request_id] = job

    def check(self, command: JobCommand) -> Job:
        """The job a command is for, where the command is legal in its phase; changes nothing."""
        job = self.get(command.request_id)
        if (type(command), job.phase) not in LEGAL:
            raise IllegalCommandError(f"{type(command).__name__} while {job.phase.name}")
        return job

    def get(self, request_id: str) -> Job:
        """The open job, or UnknownSubjectError."""
        job = self._open.get(request_id)
        if job is None:
            raise UnknownSubjectError(f"no open job {request_id}")
        return job

    def advance(self, job: Job, command: JobCommand) -> None:
        """Move a checked command's job to its next phase; one that has none is forgotten."""
        following = LEGAL[type(command), job.phase]
        if following is None:
            del self._open[job.request.request_id]
        else:
            job.phase = following

    def overdue(self, now_ms: int) -> list[Job]:
        """Jobs nobody settled in time."""
        return [job for job in self._open.values() if job.deadline_ms + SETTLEMENT_GRACE_MS < now_ms]

    def all(self) -> list[Job]:
        """Every open job, oldest first."""
        return list(self._open.values())
