"""All lies by name."""

from typing import Final

from pinaivu_simulator.lies import frames, jobs, settlements
from pinaivu_simulator.lies.lie import Lie

LIES: Final[dict[str, type[Lie]]] = {
    "none": Lie,
    "drop": frames.Drop,
    "duplicate": frames.Duplicate,
    "reorder": frames.Reorder,
    "delay": frames.Delay,
    "request-changed": jobs.ChangedRequest,
    "forwarded-changed": jobs.ChangedForwarded,
    "response-changed": settlements.OtherResponse,
    "delivery-more": settlements.MoreDelivered,
    "delivery-less": settlements.LessDelivered,
    "recount-false": settlements.FalseRecount,
    "delivery-invented": settlements.NeverRan,
    "failure-wrong": jobs.WrongFailure,
    "failure-before-acceptance": jobs.WrongFirstFailure,
    "proof-withheld": settlements.WithheldProof,
    "proof-replayed": settlements.ReplayedProof,
    "proof-twice": settlements.ProofTwice,
    "settled-twice": settlements.SettledTwice,
    "acceptance-of-another": jobs.AcceptanceOfAnother,
    "jobs-unasked": jobs.UnaskedJobs,
}
