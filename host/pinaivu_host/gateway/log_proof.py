"""The log proof in a bundle, under the newest checkpoint."""

import asyncio
from typing import Final

from pinaivu_host.gateway.error_table import COORDINATOR_UNAVAILABLE
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.store.evidence import EvidenceStore
from pinaivu_host.store.journal import Journal

CHECKPOINT_LIMIT_S: Final = 5.0
"""A checkpoint follows a durable leaf within a tenth of a second, unless the enclave is away."""


async def log_proof(journal: Journal, evidence: EvidenceStore, index: int, *, subject: str) -> str:
    """That leaf `index`, a `subject`, is in the log (C2SP tlog-proof); ApiError (503) while no checkpoint covers it."""
    try:
        async with asyncio.timeout(CHECKPOINT_LIMIT_S):
            size, checkpoint = await journal.checkpoint_over(index)
    except TimeoutError:
        raise ApiError(COORDINATOR_UNAVAILABLE, f"no checkpoint covers this {subject} yet, try again") from None
    return await evidence.log_proof(index, size=size, checkpoint=checkpoint)
