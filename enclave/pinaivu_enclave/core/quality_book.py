"""How every node stands: quality, slots, suspension; a fold over leaves (the rules are `pinaivu_shared.quality`)."""

from collections import deque
from typing import Final

import msgspec

from pinaivu_shared.configuration import NodeTerms
from pinaivu_shared.leaves import SuspensionLeaf
from pinaivu_shared.quality import (
    MEDIAN_WINDOW,
    answer_sample,
    is_failure,
    moved_quality,
    moved_slots,
    speed_of,
    was_paid,
    was_possible,
)
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.terms import QualityChange

CHANGES_KEPT: Final = 8


class Standing(msgspec.Struct):
    """One node: `slots` is how many jobs it may run at once, over all its models."""

    quality_bps: int
    slots: int
    suspended_until_ms: int = 0
    offences: int = 0
    changes: tuple[QualityChange, ...] = ()


class _Medians:
    """The latest answers of one model, embeddings apart from the others."""

    def __init__(self) -> None:
        self.first_tokens: deque[int] = deque(maxlen=MEDIAN_WINDOW)
        self.speeds: deque[int] = deque(maxlen=MEDIAN_WINDOW)


class QualityBook:
    """Standings by node; a node that nothing is known of stands at the configured prior, on probation."""

    def __init__(self) -> None:
        self._standings: dict[str, Standing] = {}
        self._medians: dict[tuple[str, bool], _Medians] = {}

    def standing(self, node_id: str, terms: NodeTerms) -> Standing:
        """How the node stands; not to be changed."""
        return self._standings.get(node_id) or Standing(terms.prior_bps, terms.probation_slots)

    def fold_receipt(self, receipt: Receipt, terms: NodeTerms) -> None:
        """Move the nodes that failed the job, then the one that got it last."""
        for failed in receipt.failed_attempts:
            if is_failure(failed.reason) or was_possible(failed.reason, receipt):
                self._move(failed.node_id, receipt.request_id, failed.reason, 0, terms)
        sample_bps = self._sample(receipt)
        if sample_bps is not None:
            self._move(receipt.node_id, receipt.request_id, receipt.reason, sample_bps, terms)

    def fold_suspension(self, leaf: SuspensionLeaf, terms: NodeTerms) -> None:
        """Out until then; after it the node begins again, on probation and at no more than half the prior."""
        known = self._standing_of(leaf.node_id, terms)
        known.quality_bps = max(1, min(known.quality_bps, terms.prior_bps // 2))
        known.slots = min(known.slots, terms.probation_slots)
        known.suspended_until_ms = leaf.until_ms
        known.offences += 1

    def _sample(self, receipt: Receipt) -> int | None:
        """What the last attempt says of its node; None for nothing. Only answers count for the medians."""
        if not was_paid(receipt):
            return 0 if is_failure(receipt.reason) else None
        if receipt.reason == "usage_cut":
            return None  # more tokens than bytes were delivered: hidden ones, or a lie
        if receipt.reason == "usage_recounted":
            return 0
        medians = self._medians.setdefault((receipt.model, receipt.completion_tokens > 0), _Medians())
        speed = speed_of(receipt)
        sample = answer_sample(
            receipt.timing, speed, first_tokens=list(medians.first_tokens), speeds=list(medians.speeds)
        )
        medians.first_tokens.append(receipt.timing.first_token_ms)
        if speed is not None:
            medians.speeds.append(speed)
        return sample

    def _move(self, node_id: str, request_id: str, reason: str, sample_bps: int, terms: NodeTerms) -> None:
        known = self._standing_of(node_id, terms)
        known.quality_bps = moved_quality(known.quality_bps, sample_bps)
        known.slots = moved_slots(known.slots, good=sample_bps > 0)
        change = QualityChange(
            request_id=request_id, reason=reason, sample_bps=sample_bps, quality_bps=known.quality_bps
        )
        known.changes = (*known.changes[1 - CHANGES_KEPT :], change)

    def _standing_of(self, node_id: str, terms: NodeTerms) -> Standing:
        return self._standings.setdefault(node_id, Standing(terms.prior_bps, terms.probation_slots))
