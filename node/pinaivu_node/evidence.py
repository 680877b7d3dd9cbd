"""What a node keeps of what was signed: enough to show an auction that left it out, and a job that was not paid.

One JSON object per line, each signed thing with payload and signature in hex. Two files of each kind, of bounded size,
so that the latest are always there.
"""

import logging
from pathlib import Path
from typing import Final

import msgspec

from pinaivu_node.job import ProvenJob
from pinaivu_node.quotes import Acknowledged
from pinaivu_shared.signed import Signed

ACKNOWLEDGEMENTS: Final = "acknowledgements.jsonl"
JOBS: Final = "jobs.jsonl"
MAX_FILE_BYTES: Final = {ACKNOWLEDGEMENTS: 1 << 20, JOBS: 16 << 20}
logger = logging.getLogger(__name__)


class EvidenceFiles:
    """Signed evidence on disk. A full disk costs the evidence, never the node."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def keep_quote(self, acknowledged: Acknowledged) -> None:
        """A quote, and the enclave's signature that it stands."""
        self._append(ACKNOWLEDGEMENTS, quote=acknowledged.quote, acknowledgement=acknowledged.acknowledgement)

    def keep_job(self, proven: ProvenJob) -> None:
        """The enclave's award, and what the node proved to have done under it."""
        self._append(JOBS, award=proven.award, proof=proven.proof)

    def _append(self, name: str, **signed: Signed) -> None:
        path = self._data_dir / name
        line = msgspec.json.encode({what: _shown(one) for what, one in signed.items()})
        try:
            if path.exists() and path.stat().st_size > MAX_FILE_BYTES[name]:
                path.replace(path.with_suffix(".1.jsonl"))
            with path.open("ab") as file:
                file.write(line + b"\n")
        except OSError as error:
            logger.warning("evidence not kept", extra={"kv": {"file": name, "detail": str(error)}})


def _shown(signed: Signed) -> dict[str, str]:
    return {"payload": signed.payload.hex(), "signature": signed.signature.hex()}
