"""`GET /v1/receipts/{request_id}` and `/bundle`: for the owner; to anyone else there is no such receipt."""

import base64
import hashlib
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from pinaivu_host.gateway.authentication import authenticate
from pinaivu_host.gateway.body import header
from pinaivu_host.gateway.error_table import RECEIPT_NOT_FOUND
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.http_answer import JSON, response_start, send_json
from pinaivu_host.gateway.log_proof import log_proof
from pinaivu_host.store.accounts import Accounts
from pinaivu_host.store.evidence import Evidence, EvidenceStore
from pinaivu_host.store.journal import Journal


class Receipts:
    """The receipt alone is the exact bytes that the enclave signed."""

    def __init__(self, evidence: EvidenceStore, journal: Journal, accounts: Accounts) -> None:
        self._evidence, self._journal, self._accounts = evidence, journal, accounts

    async def receipt(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """The receipt; it never changes, so caches may keep it."""
        caller = await authenticate(scope, self._accounts)
        raw = await self._evidence.receipt(scope["path_params"]["request_id"], account_id=caller.account_id)
        if raw is None:
            raise _no_receipt()
        tag = '"' + hashlib.sha256(raw).hexdigest() + '"'
        headers = (("etag", tag), ("cache-control", "private, max-age=31536000, immutable"))
        request_id = scope["state"]["request_id"]
        if tag in (header(scope, b"if-none-match") or ""):
            await send(response_start(304, JSON, request_id=request_id, headers=headers))
            await send({"type": "http.response.body", "body": b""})
        else:
            await send_json(send, raw, request_id=request_id, headers=headers)

    async def bundle(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Everything that offline verification needs beside the trust file."""
        caller = await authenticate(scope, self._accounts)
        found = await self._evidence.evidence(scope["path_params"]["request_id"], account_id=caller.account_id)
        if found is None:
            raise _no_receipt()
        proof = await log_proof(self._journal, self._evidence, found.index, subject="receipt")
        bundle = _bundle(found, proof)
        await send_json(send, bundle, request_id=scope["state"]["request_id"], headers=(("cache-control", "private"),))


def _bundle(found: Evidence, proof: str) -> bytes:
    shown: dict[str, Any] = {
        "receipt": msgspec.Raw(found.receipt),
        **({} if found.salt is None else {"opening": {"salt": found.salt.hex()}}),
        "attestation": base64.b64encode(found.document).decode(),
        "manifest": msgspec.Raw(found.manifest),
        "configuration": msgspec.Raw(found.configuration),
        "transcript": msgspec.Raw(found.transcript),
    }
    if found.node_proof is not None:
        shown["node_proof"] = {
            "payload": base64.b64encode(found.node_proof.payload).decode(),
            "signature": base64.b64encode(found.node_proof.signature).decode(),
        }
    shown["proof"] = proof
    return msgspec.json.encode(shown)


def _no_receipt() -> ApiError:
    return ApiError(RECEIPT_NOT_FOUND, "there is no such receipt for this account")
