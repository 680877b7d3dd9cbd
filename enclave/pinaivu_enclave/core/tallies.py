"""How each node fared in the auctions of this epoch: for its operator's eyes only, so it is in no leaf."""

from typing import Final

import msgspec

from pinaivu_shared.money import BASIS_POINTS
from pinaivu_shared.second_score import Transcript

MARGIN_MAX_BPS: Final = 1_000_000
"""A score a hundred times the winner's counts as that: one that bids next to nothing must not make averages absurd."""


class Tally(msgspec.Struct):
    """`margins_bps` sums by how much the node's scores were above the winners'."""

    wins: int = 0
    losses: int = 0
    margins_bps: int = 0


class Tallies:
    """Tallies by node."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}

    def of(self, node_id: str) -> Tally:
        """The node's tally; not to be changed."""
        return self._tallies.get(node_id) or Tally()

    def count(self, transcript: Transcript) -> None:
        """One more auction that led to an award."""
        winner, *others = transcript.bids
        self._tallies.setdefault(winner.bid.node_id, Tally()).wins += 1
        best = max(1, int(winner.score))
        for loser in others:
            tally = self._tallies.setdefault(loser.bid.node_id, Tally())
            tally.losses += 1
            tally.margins_bps += min(MARGIN_MAX_BPS, (int(loser.score) - best) * BASIS_POINTS // best)
