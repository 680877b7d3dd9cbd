"""Every error of Pinaivu says who was wrong.

PinaivuError
├── CallerError            the client or operator that asked           HTTP 4xx, exit 2
├── PeerError              a node, host or KMS that broke the protocol  drop it, count it, go on
├── OverloadedError        a limit of our own was reached               HTTP 429/503, retry later
├── UnreadableError        what was to be verified cannot even be read  exit 2
└── VerificationError      evidence does not hold                       exit 1, never retried

Our own bugs are none of these: `assert` states an invariant and the process ends.
`code` is stable and for programs; the text is for people and may change.
"""

from typing import ClassVar


class PinaivuError(Exception):
    """Root of all errors that are somebody's doing and not our bug."""

    code: ClassVar[str] = "internal_error"


class CallerError(PinaivuError):
    """What was asked for is wrong; asking again in the same way will fail again."""

    code = "invalid_request"


class PeerError(PinaivuError):
    """A peer sent what the protocol does not allow. `peer` names it."""

    code = "peer_error"

    def __init__(self, peer: str, detail: str) -> None:
        super().__init__(f"{peer}: {detail}")
        self.peer, self.detail = peer, detail


class OverloadedError(PinaivuError):
    """A bound of ours was reached; the same call may work later."""

    code = "overloaded"


class UnreadableError(PinaivuError):
    """The thing to verify is not there, not text, not JSON or beyond the size limit."""

    code = "unreadable"


class VerificationError(PinaivuError):
    """Evidence does not hold. `check` is what `pinaivu verify` names, `detail` says what was found."""

    code = "verification_failed"

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(f"{check}: {detail}")
        self.check, self.detail = check, detail
