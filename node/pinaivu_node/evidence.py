"""The acknowledgements that a node keeps: with them it can prove that an auction left its quote out.

One JSON object per line, quote and acknowledgement with their signatures in hex. Two files of bounded size, so that
the latest are always there.
"""

import logging
from pathlib import Path
from typing import Final

import msgspec

from pinaivu_node.quotes import Acknowledged
from pinaivu_shared.signed import Signed

MAX_FILE_BYTES: Final = 1 << 20
FILE: Final = "acknowledgements.jsonl"
logger = logging.getLogger(__name__)


class EvidenceFile:
    """Acknowledged quotes on disk. A full disk costs the evidence, never the node."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE

    def keep(self, acknowledged: Acknowledged) -> None:
        """Append one acknowledged quote."""
        line = msgspec.json.encode({
            "quote": _shown(acknowledged.quote),
            "acknowledgement": _shown(acknowledged.acknowledgement),
        })  # fmt: skip
        try:
            if self._path.exists() and self._path.stat().st_size > MAX_FILE_BYTES:
                self._path.replace(self._path.with_suffix(".1.jsonl"))
            with self._path.open("ab") as file:
                file.write(line + b"\n")
        except OSError as error:
            logger.warning("acknowledgement not kept", extra={"kv": {"detail": str(error)}})


def _shown(signed: Signed) -> dict[str, str]:
    return {"payload": signed.payload.hex(), "signature": signed.signature.hex()}
