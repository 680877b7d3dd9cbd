"""Proofs that settle nothing: they came after their job had ended, or after another proof of it."""

import logging

from pinaivu_host.errors import CommandRefusedError, CoordinatorUnavailableError
from pinaivu_host.link import EnclaveLink
from pinaivu_shared.signed import Signed
from pinaivu_shared.wire.link import Done, ReportProof

logger = logging.getLogger(__name__)


async def report_proof(link: EnclaveLink, request_id: str, proof: Signed) -> None:
    """Hand one to the enclave, once the job is settled; what it makes of it shows in the log and nowhere else."""
    try:
        await link.call(ReportProof(request_id, proof), Done)
    except (CommandRefusedError, CoordinatorUnavailableError) as error:
        logger.debug("late proof ignored", extra={"kv": {"request_id": request_id, "error": str(error)}})
