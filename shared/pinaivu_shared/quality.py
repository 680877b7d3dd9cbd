"""Quality: what the market thinks of a node, from receipts alone, in integers (DESIGN section 4).

Each attempt gives a sample between 0 and 10,000 basis points: 0 for a failure of the node, and for an answer GOOD_BPS
plus what its time to first token and its speed are worth beside the model's medians. Quality moves a sixteenth of the
way to the sample, and never more than STEP_BPS, so no single job decides about a node, whoever misreported it.

Slots follow: one more for each good attempt, an eighth less (at least one) for each failure, never below one.
"""

from typing import Final

from pinaivu_shared.money import BASIS_POINTS
from pinaivu_shared.receipt import Receipt, ReceiptTiming

WEIGHT: Final = 16
STEP_BPS: Final = 250
GOOD_BPS: Final = 6000
PART_BPS: Final = 2000
GRACE_MS: Final = 100
"""Added to every time that is compared: a few milliseconds are nobody's fault, and a burst is no speed."""
SPEED_TOKENS_MIN: Final = 8
"""Shorter answers say nothing about speed."""
SPEED_SCALE: Final = 1_000_000
MEDIAN_WINDOW: Final = 63
SLOTS_MAX: Final = 65_536
OFFENCES_MAX: Final = 10
"""Suspensions double so often; after that they stay as long as they are."""

NOT_THE_NODES_FAULT: Final = frozenset({
    "client_disconnected", "client_stalled", "shutting_down", "host_restarted", "deadline", "abandoned",
    "coordinator_unavailable", "not_accepted", "nothing_delivered", "context_length_exceeded", "unsupported_request",
    "stopped_at_once",
})  # fmt: skip
"""Reasons that say nothing of the node. Everything else that ended without an answer counts as its failure."""


def is_failure(reason: str) -> bool:
    """Whether an attempt that ended without an answer, for this reason, counts against its node."""
    return reason not in NOT_THE_NODES_FAULT


def was_paid(receipt: Receipt) -> bool:
    """Whether there was an answer to pay for; one of embeddings has a prompt alone."""
    return receipt.prompt_tokens + receipt.completion_tokens > 0


def was_possible(reason: str, receipt: Receipt) -> bool:
    """Whether a node declined as impossible for any what another node then did: that counts as its failure."""
    return reason == "unsupported_request" and was_paid(receipt)


def speed_of(receipt: Receipt) -> int | None:
    """Tokens per second, times 1,000, after the first token and GRACE_MS; None where too few tokens tell nothing."""
    if receipt.completion_tokens < SPEED_TOKENS_MIN:
        return None
    generating_ms = max(0, receipt.timing.duration_ms - receipt.timing.first_token_ms)
    return receipt.completion_tokens * SPEED_SCALE // (generating_ms + GRACE_MS)


def answer_sample(timing: ReceiptTiming, speed: int | None, *, first_tokens: list[int], speeds: list[int]) -> int:
    """The sample of an answer, beside earlier answers of its model; without any, it is at the median itself."""
    waited = BASIS_POINTS
    if first_tokens:
        median = _median(first_tokens)
        waited = min(BASIS_POINTS, (median + GRACE_MS) * BASIS_POINTS // (timing.first_token_ms + GRACE_MS))
    fast = BASIS_POINTS
    if speed is not None and speeds:
        fast = min(BASIS_POINTS, speed * BASIS_POINTS // max(1, _median(speeds)))
    return GOOD_BPS + PART_BPS * waited // BASIS_POINTS + PART_BPS * fast // BASIS_POINTS


def _median(values: list[int]) -> int:
    """The lower one of two in the middle. The standard library's brings chance and fractions, which the image lacks."""
    return sorted(values)[(len(values) - 1) // 2]


def moved_quality(quality_bps: int, sample_bps: int) -> int:
    """Quality after a sample: between 1 and 10,000, at most STEP_BPS away."""
    difference = sample_bps - quality_bps
    step = min(STEP_BPS, abs(difference) // WEIGHT + (difference != 0))
    return max(1, quality_bps + step if difference > 0 else quality_bps - step)


def moved_slots(slots: int, *, good: bool) -> int:
    """How many jobs a node may run at once after a good attempt, or after a failure."""
    return min(SLOTS_MAX, slots + 1) if good else max(1, slots - max(1, slots // 8))


def suspension_ms(base_ms: int, offences: int) -> int:
    """How long the next suspension lasts, after so many before it."""
    return base_ms << min(offences, OFFENCES_MAX)
