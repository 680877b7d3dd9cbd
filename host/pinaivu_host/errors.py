"""Errors of the host's own parts, below PinaivuError's branches.

OverloadedError
└── CoordinatorUnavailableError   the enclave link is down, or broke while the call was in flight
PeerError
└── JournalConflictError          the enclave pushed another leaf for an index that is already taken
CallerError
└── CommandRefusedError           the enclave refused a command; `.refusal` is its stable code
"""

from pinaivu_shared.errors import CallerError, OverloadedError, PeerError


class CoordinatorUnavailableError(OverloadedError):
    """There is no enclave to talk to right now; whether a call in flight was carried out is unknown."""

    code = "coordinator_unavailable"


class CommandRefusedError(CallerError):
    """The enclave refused a command and changed nothing."""

    code = "refused"

    def __init__(self, refusal: str, detail: str) -> None:
        super().__init__(f"{refusal}: {detail}")
        self.refusal, self.detail = refusal, detail


class JournalConflictError(PeerError):
    """Two histories: what is stored stays, the link ends, a person must look."""

    code = "journal_conflict"

    def __init__(self, index: int, *, stored: str, pushed: str) -> None:
        super().__init__("enclave", f"leaf {index} is stored as {stored}, pushed as {pushed}")
        self.index, self.stored, self.pushed = index, stored, pushed
