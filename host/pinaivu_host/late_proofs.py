"""Proofs that settle nothing: they came after their job had ended, or after another proof of it.

Those that the enclave takes are kept, for a suspension leaf names them by their digests alone. It takes at most two of
a job that differ: after those it has convicted the node and forgotten the job.
"""

import logging

from sqlalchemy.exc import SQLAlchemyError

from pinaivu_host.errors import CommandRefusedError, CoordinatorUnavailableError
from pinaivu_host.link import EnclaveLink
from pinaivu_host.store.evidence import EvidenceStore
from pinaivu_shared.signed import Signed
from pinaivu_shared.wire.link import Done, ReportProof

logger = logging.getLogger(__name__)


async def report_proof(link: EnclaveLink, evidence: EvidenceStore, request_id: str, proof: Signed) -> None:
    """Hand one to the enclave, once the job is settled, and keep it; what it is worth shows in the log alone.

    Storage that fails costs the proof, never the job or the connection that brought it.
    """
    try:
        await link.call(ReportProof(request_id, proof), Done)
        await evidence.keep_proof(proof)
    except (CommandRefusedError, CoordinatorUnavailableError) as error:
        logger.debug("late proof ignored", extra={"kv": {"request_id": request_id, "error": str(error)}})
    except SQLAlchemyError as error:
        logger.warning("late proof not kept", extra={"kv": {"request_id": request_id, "error": str(error)}})
