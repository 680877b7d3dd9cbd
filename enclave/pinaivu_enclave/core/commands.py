"""What the coordinator is told and what it answers.

A command is either a host's, taken from the wire as it is, or one that the shell completes with what a pure core cannot
have: entropy and time. Effects are the messages to send, in order: pushes first, then at most one result.
"""

import msgspec

from pinaivu_shared.errors import CallerError, OverloadedError
from pinaivu_shared.wire import link, link_boot


class IssueChallenge(msgspec.Struct, frozen=True):
    """A node wants to register. `entropy` is 48 fresh random bytes: 16 name the session, 32 are the challenge."""

    public_key: bytes
    entropy: bytes


class Tick(msgspec.Struct, frozen=True):
    """Time has passed: end what is overdue."""


Command = (
    link_boot.Introduce
    | IssueChallenge
    | link.RegisterNode
    | link.PostSealedQuote
    | link.WithdrawQuotes
    | link.EndSession
    | link.ReadNodeReport
    | link.RecordOrder
    | link.OpenJob
    | link.AcceptAward
    | link.ReportFirstToken
    | link.ReportFailure
    | link.SettleJob
    | link.ReportProof
    | link.AcknowledgeLeaves
    | Tick
)
Effect = link.Push | link.Result


class IllegalCommandError(CallerError):
    """The command is not legal in the phase its subject is in."""

    code = "illegal_command"


class UnknownSubjectError(CallerError):
    """No such session, node or job."""

    code = "unknown_subject"


class DuplicateRequestError(CallerError):
    """A request id that was used before, or whose time is not now."""

    code = "duplicate_request"


class DuplicateOrderError(CallerError):
    """An order whose reference was used before: it counts once."""

    code = "duplicate_order"


class ImpossibleOrderError(CallerError):
    """An order that the operator signed, about more than the accounts allow."""

    code = "impossible_order"


class AlreadySettledError(CallerError):
    """The job has its receipt; nothing that comes later changes it."""

    code = "already_settled"


class RefusedQuoteError(CallerError):
    """The quote is not one that may stand."""

    code = "refused_quote"


class MarketFullError(OverloadedError):
    """A bound of the configuration was reached, or the host's storage lags behind."""

    code = "market_full"
