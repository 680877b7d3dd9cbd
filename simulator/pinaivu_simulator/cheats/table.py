"""All cheats by name."""

from typing import Final

from pinaivu_simulator.cheats import frames, jobs, proofs, quotes, stalls, usage
from pinaivu_simulator.cheats.cheat import Cheat

CHEATS: Final[dict[str, type[Cheat]]] = {
    "none": Cheat,
    "usage-beyond-award": usage.BeyondAward,
    "usage-beyond-request": usage.BeyondRequest,
    "usage-far-beyond-request": usage.FarBeyondRequest,
    "usage-beyond-delivery": usage.BeyondDelivery,
    "usage-within-delivery": usage.WithinDelivery,
    "empty-answer": usage.EmptyAnswer,
    "never-offered": jobs.NeverOffered,
    "unaccepted": jobs.Unaccepted,
    "proof-alone": jobs.ProofAlone,
    "decline-false": jobs.FalseDecline,
    "award-of-another": jobs.AwardOfAnother,
    "proof-replayed": proofs.ReplayedProof,
    "proof-broken": proofs.BrokenSignature,
    "proof-changed": proofs.ChangedProof,
    "proof-twice": proofs.TwoProofs,
    "quote-replayed": quotes.ReplayedQuote,
    "quote-of-another-session": quotes.QuoteOfAnotherSession,
    "sequence-reused": quotes.ReusedSequence,
    "key-of-another": quotes.KeyOfAnother,
    "challenge-made-up": quotes.MadeUpChallenge,
    "registration-replayed": quotes.ReplayedRegistration,
    "stall-before-accept": stalls.StallBeforeAccept,
    "stall-before-first-token": stalls.StallBeforeFirstToken,
    "stall-mid-stream": stalls.StallMidStream,
    "stall-before-proof": stalls.StallBeforeProof,
    "endless-stream": stalls.EndlessStream,
    "garbage": frames.Garbage,
    "tiny-pieces": frames.TinyPieces,
    "half-frame": frames.HalfFrame,
    "endless-fragments": frames.EndlessFragments,
    "half-hello": frames.HalfHello,
}
