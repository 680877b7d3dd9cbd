"""Suspensions: a node that signed what convicts it is out of every auction for a while.

Only the node's own signatures count, never the word of the host: a claim that the award rules out, or two proofs of
one award that differ. The way back is to wait; the node then begins again on probation.
"""

from typing import Literal

from pinaivu_enclave.core.journal import Journal
from pinaivu_enclave.core.keys import EpochKeys
from pinaivu_enclave.core.market_state import MarketState
from pinaivu_shared.leaves import SuspensionLeaf, sign_leaf
from pinaivu_shared.quality import suspension_ms
from pinaivu_shared.wire.link import LeafAppended


class SuspensionOffice:
    """Writes suspensions and folds them into the market's state."""

    def __init__(self, keys: EpochKeys, state: MarketState, journal: Journal) -> None:
        self._keys, self._state, self._journal = keys, state, journal

    def suspend(
        self,
        node_id: str,
        reason: Literal["usage_absurd", "conflicting_proofs"],
        *,
        request_id: str,
        evidence: tuple[str, ...],
        now_ms: int,
    ) -> LeafAppended:
        """From now on, and twice as long as the last time; a suspension that still runs is only ever extended."""
        standing = self._state.quality.standing(node_id, self._state.terms)
        until_ms = now_ms + suspension_ms(self._state.terms.suspension_ms, standing.offences)
        leaf = SuspensionLeaf(
            index=self._journal.size,
            node_id=node_id,
            reason=reason,
            request_id=request_id,
            evidence=evidence,
            suspended_ms=now_ms,
            until_ms=max(until_ms, standing.suspended_until_ms),
            coordinator_signature="",
        )
        self._state.fold(leaf)
        return self._journal.append(sign_leaf(leaf, self._keys.receipt))
