"""Jobs: which command is legal in which phase, and what the coordinator remembers of a job until its receipt."""

from enum import Enum, auto
from typing import Final

import msgspec

from pinaivu_enclave.core.commands import AlreadySettledError, IllegalCommandError, UnknownSubjectError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.signed import Signed
from pinaivu_shared.terms import Award
from pinaivu_shared.wire.link import AcceptAward, OpenJob, ReportFailure, ReportFirstToken, SettleJob

SETTLEMENT_GRACE_MS: Final = 60_000
"""More than a host takes to give up on a stalled caller, to wait for a proof and to reconnect."""
SETTLED_KEPT: Final = 16_384
"""Settled jobs that are remembered: long enough to tell a second proof from a first."""


class Phase(Enum):
    """Where a job stands between its first award and its receipt."""

    AWARDED = auto()
    RUNNING = auto()
    STREAMING = auto()


JobCommand = AcceptAward | ReportFirstToken | ReportFailure | SettleJob
LEGAL: Final[dict[tuple[type[JobCommand], Phase], Phase | None]] = {
    (AcceptAward, Phase.AWARDED): Phase.RUNNING,
    (ReportFirstToken, Phase.RUNNING): Phase.STREAMING,
    (ReportFailure, Phase.AWARDED): Phase.AWARDED,
    (ReportFailure, Phase.RUNNING): Phase.AWARDED,
    (SettleJob, Phase.AWARDED): None,
    (SettleJob, Phase.RUNNING): None,
    (SettleJob, Phase.STREAMING): None,
}
"""(command, phase) -> next phase; None ends the job. What is not in the table is refused."""


class ProofTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a proof must name to be one for an award: the award's parties, its digest and the forwarded request."""

    request_id: str
    node_id: str
    session: str
    public_key: str
    award: str
    forwarded_commitment: str


class Failure(msgspec.Struct, frozen=True):
    """An award that did not lead to an answer, why, and what the context length that its node quoted counts for."""

    node_id: str
    reason: str
    context_length: int


class Job(msgspec.Struct, kw_only=True):
    """An open job: what was asked, the award in force and the attempts that failed.

    `shortened`: by the account's credit, the answer. `first_token_ms` 0: no token came.
    """

    request: OpenJob
    phase: Phase
    award: Award
    signed_award: Signed
    public_key: bytes
    context_length: int
    shortened: bool
    transcript: bytes
    bids: int
    deadline_ms: int
    first_token_ms: int = 0
    failed: tuple[Failure, ...] = ()

    @property
    def award_digest(self) -> str:
        """The digest of the award's payload bytes, which acceptance and proof name."""
        return digest_of(self.signed_award.payload)

    def proof_terms(self) -> ProofTerms:
        """What its proof must name."""
        return ProofTerms(
            request_id=self.request.request_id,
            node_id=self.award.node_id,
            session=self.award.session,
            public_key=self.public_key.hex(),
            award=self.award_digest,
            forwarded_commitment=self.award.forwarded_commitment,
        )


class SettledJob(msgspec.Struct, frozen=True):
    """What is left of a job: its receipt's leaf, what a proof for it names, and the digest of the first that held."""

    index: int
    terms: ProofTerms
    proof: str


class Jobs:
    """Open jobs by request id, in the order of their deadlines, and the latest settled ones."""

    def __init__(self) -> None:
        self._open: dict[str, Job] = {}
        self._settled: dict[str, SettledJob] = {}

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
        """The open job; AlreadySettledError or UnknownSubjectError where there is none."""
        job = self._open.get(request_id)
        if job is not None:
            return job
        settled = self._settled.get(request_id)
        if settled is not None:
            raise AlreadySettledError(f"{request_id} was settled: its receipt is leaf {settled.index}")
        raise UnknownSubjectError(f"no open job {request_id}")

    def advance(self, job: Job, command: JobCommand) -> None:
        """Move a checked command's job to its next phase; one that has none is open no more."""
        following = LEGAL[type(command), job.phase]
        if following is None:
            del self._open[job.request.request_id]
        else:
            job.phase = following

    def remember(self, settled: SettledJob) -> None:
        """Keep what is left of a job, in place of the oldest that is kept."""
        self._settled[settled.terms.request_id] = settled
        if len(self._settled) > SETTLED_KEPT:
            del self._settled[next(iter(self._settled))]

    def forget(self, settled: SettledJob) -> None:
        """Nothing more about this job is of interest."""
        del self._settled[settled.terms.request_id]

    def settled(self, request_id: str) -> SettledJob:
        """What is left of a settled job, or UnknownSubjectError."""
        found = self._settled.get(request_id)
        if found is None:
            raise UnknownSubjectError(f"no settled job {request_id} is remembered")
        return found

    def overdue(self, now_ms: int) -> list[Job]:
        """Jobs nobody settled in time."""
        return [job for job in self._open.values() if job.deadline_ms + SETTLEMENT_GRACE_MS < now_ms]

    def all(self) -> list[Job]:
        """Every open job, oldest first."""
        return list(self._open.values())
