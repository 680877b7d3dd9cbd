"""Errors of the host's own parts, below PinaivuError's branches.

OverloadedError
├── CoordinatorUnavailableError   the enclave link is down, or broke while the call was in flight
├── CredentialsUnavailableError   there are no AWS credentials right now
└── BridgeRefusedError            the KMS bridge cannot carry this request; `.refusal` is what the enclave is told
PeerError
├── JournalConflictError          the enclave pushed another leaf for an index that is already taken
└── VaultConflictError            the enclave sealed another vault than the one that is stored
CallerError
├── CommandRefusedError           the enclave refused a command; `.refusal` is its stable code
├── VaultLostError                there is a log, but not the sealed vault that its keys come from
└── OrderConflictError            another order was given under the same reference
"""

from pinaivu_shared.errors import CallerError, OverloadedError, PeerError
from pinaivu_shared.wire.kms import RefusalCode


class CoordinatorUnavailableError(OverloadedError):
    """There is no enclave to talk to right now; whether a call in flight was carried out is unknown."""

    code = "coordinator_unavailable"


class CredentialsUnavailableError(OverloadedError):
    """Nothing to sign with at the moment. The text names what to do, and nothing of any credential."""

    code = "credentials_unavailable"


class BridgeRefusedError(OverloadedError):
    """No pipe to KMS for this request (`wire.kms.BridgeRefusal`)."""

    code = "bridge_refused"

    def __init__(self, refusal: RefusalCode, detail: str) -> None:
        super().__init__(f"{refusal}: {detail}")
        self.refusal, self.detail = refusal, detail


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


class VaultConflictError(PeerError):
    """Two vaults for one log: the stored one stays, the link ends, a person must look."""

    code = "vault_conflict"

    def __init__(self, origin: str, *, stored: str, given: str) -> None:
        super().__init__("enclave", f"the vault of {origin} is stored as {stored}, given as {given}")
        self.origin, self.stored, self.given = origin, stored, given


class VaultLostError(CallerError):
    """A new vault would mean another checkpoint key, and with it another log."""

    code = "vault_lost"

    def __init__(self, origin: str, leaves: int) -> None:
        super().__init__(
            f"{leaves} leaves of {origin} are stored, but not its sealed vault: restore the table sealed_vaults from a "
            "backup; without it this log cannot go on"
        )
        self.origin, self.leaves = origin, leaves


class OrderConflictError(CallerError):
    """A reference names one order for ever."""

    code = "order_conflict"

    def __init__(self, reference: str) -> None:
        super().__init__(f"another order has the reference {reference}")
        self.reference = reference
