"""Why an attempt to have the vault secret failed, and through whom."""

from typing import Literal

from pinaivu_shared.errors import PeerError

Peer = Literal["host", "kms"]
Reason = Literal[
    "bridge_unreachable",
    "bridge_refused",
    "bridge_protocol",
    "authorization",
    "certificate",
    "connection_broken",
    "timeout",
    "http",
    "busy",
    "credentials",
    "clock",
    "access_denied",
    "refused",
    "answer",
    "envelope",
]


class AttemptError(PeerError):
    """One attempt gave no secret.

    `reason` and `aws_code` are stable and for log lines, which the host reads; the text is for the operator. `may_pass`
    says that nothing has to be mended before another attempt.
    """

    def __init__(self, peer: Peer, reason: Reason, detail: str, *, may_pass: bool, aws_code: str = "") -> None:
        super().__init__(peer, detail)
        self.reason, self.may_pass, self.aws_code = reason, may_pass, aws_code
