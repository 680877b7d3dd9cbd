"""`GET /v1/transcripts/{digest}`: an auction as it was held, for everybody, under the digest that receipts name.

`pinaivu auction explain` reads it. Prices are sealed until they were used, and public afterwards (DESIGN section 4).
"""

from starlette.types import Receive, Scope, Send

from pinaivu_host.gateway.error_table import NOT_FOUND
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.http_answer import send_json
from pinaivu_host.store.evidence import EvidenceStore


class Transcripts:
    """Canonical bytes, which never change."""

    def __init__(self, evidence: EvidenceStore) -> None:
        self._evidence = evidence

    async def transcript(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """The transcript, of jobs that have their receipt."""
        digest = scope["path_params"]["digest"]
        raw = await self._evidence.transcript(digest)
        if raw is None:
            raise ApiError(NOT_FOUND, f"there is no transcript {digest[:80]!r}: receipts name theirs, as sha256:…")
        headers = (("cache-control", "public, max-age=31536000, immutable"),)
        await send_json(send, raw, request_id=scope["state"]["request_id"], headers=headers)
