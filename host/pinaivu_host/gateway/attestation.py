"""`GET /v1/attestation?nonce=hex`: a fresh attestation document. For everybody, so only few are made at a time."""

import base64
import re
from typing import Final
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive, Scope, Send

from pinaivu_host.gateway.error_table import INVALID_REQUEST
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.few_at_once import FewAtOnce
from pinaivu_host.gateway.http_answer import NO_STORE, send_json
from pinaivu_host.link import EnclaveLink
from pinaivu_shared.wire.link import Attest
from pinaivu_shared.wire.link import Attestation as Attested

_NONCE: Final = re.compile(r"(?:[0-9a-fA-F]{2}){0,1024}")


class Attestation:
    """Answers with document (base64), manifest and configuration (their canonical bytes, as JSON)."""

    def __init__(self, link: EnclaveLink) -> None:
        self._link = link
        self._turns = FewAtOnce("attestations")

    async def attest(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """One document over the asker's nonce."""
        nonce = _nonce(scope)
        async with self._turns.turn():
            attested = await self._link.call(Attest(nonce), Attested)
        shown = {
            "document": base64.b64encode(attested.document).decode(),
            "manifest": msgspec.Raw(attested.manifest),
            "configuration": msgspec.Raw(attested.configuration),
        }
        request_id = scope["state"]["request_id"]
        headers = (NO_STORE,)
        await send_json(send, msgspec.json.encode(shown), request_id=request_id, headers=headers)


def _nonce(scope: Scope) -> bytes:
    asked = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("nonce", [""])
    if len(asked) != 1 or _NONCE.fullmatch(asked[0]) is None:
        raise ApiError(INVALID_REQUEST, "nonce must be at most 1024 bytes in hex", param="nonce")
    return bytes.fromhex(asked[0])
