"""`GET /v1/nodes/{node_id}`, its `/statements` and `/statements/{number}`: what the log says about a node.

For everybody, without a key: the log is public. Nothing here has to be believed but the statement's bundle, which
`pinaivu node statement` verifies.
"""

import base64
from typing import Final
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive, Scope, Send

from pinaivu_host.clock import now_ms
from pinaivu_host.gateway.error_table import INVALID_REQUEST, NOT_FOUND
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.few_at_once import FewAtOnce
from pinaivu_host.gateway.http_answer import NO_STORE, send_json
from pinaivu_host.gateway.log_proof import log_proof
from pinaivu_host.store.evidence import EvidenceStore
from pinaivu_host.store.journal import Journal
from pinaivu_host.store.node_records import ListedStatement, NodeAccount, NodeRecords, StatementEvidence, Suspension
from pinaivu_shared.money import format_usdc

LISTED_DEFAULT: Final = 20
LISTED_MAX: Final = 100
NUMBER_MAX: Final = 2**53 - 1


class Nodes:
    """Amounts are written as on receipts (`0.000042 USDC`), times are milliseconds since 1970."""

    def __init__(self, records: NodeRecords, evidence: EvidenceStore, journal: Journal) -> None:
        self._records, self._evidence, self._journal = records, evidence, journal
        self._turns = FewAtOnce("statements")  # a bundle can have thousands of receipts

    async def node(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """How the node stands."""
        node_id = scope["path_params"]["node_id"]
        account = await self._records.account(node_id)
        if account is None:
            raise ApiError(NOT_FOUND, f"no node {node_id[:100]!r} has registered in this market")
        await _send(scope, send, _node_shown(node_id, account))

    async def statements(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """A page of its statements, in order; `after` is the last number that the caller has."""
        after = _query_number(scope, "after", default=0, most=NUMBER_MAX)
        limit = _query_number(scope, "limit", default=LISTED_DEFAULT, most=LISTED_MAX)
        node_id = scope["path_params"]["node_id"]
        found = await self._records.statements(node_id, after=after, limit=limit + 1)
        page = [_statement_shown(one) for one in found[:limit]]
        await _send(scope, send, {"object": "list", "data": page, "has_more": len(found) > limit})

    async def statement(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """One statement with everything that offline verification needs beside the trust file."""
        async with self._turns.turn():
            bundle = await self._bundle(**scope["path_params"])
        await send_json(send, bundle, request_id=scope["state"]["request_id"])

    async def _bundle(self, node_id: str, number: str) -> bytes:
        asked = _number(number, most=NUMBER_MAX)
        found = None if asked is None else await self._records.statement(node_id, asked)
        if found is None:
            raise ApiError(NOT_FOUND, f"there is no statement {number[:20]!r} of node {node_id[:100]!r}")
        proof = await log_proof(self._journal, self._evidence, found.index, subject="statement")
        return _bundle_bytes(found, proof)


def _node_shown(node_id: str, account: NodeAccount) -> dict[str, object]:
    return {
        "node_id": node_id,
        "operator": account.operator,
        "registered_ms": account.registered_ms,
        "statements": account.statements,
        "earned": format_usdc(account.earned),
        "stated": format_usdc(account.stated),
        "payable": format_usdc(account.payable),
        "paid_out": format_usdc(account.paid_out),
        "suspension": _suspension_shown(account.suspension),
    }


def _suspension_shown(suspension: Suspension | None) -> dict[str, object] | None:
    """The one that is in force now."""
    if suspension is None or suspension.until_ms <= now_ms():
        return None
    shown: dict[str, object] = msgspec.to_builtins(suspension)
    return shown


def _statement_shown(statement: ListedStatement) -> dict[str, object]:
    return {
        "number": statement.number,
        "index": statement.index,
        "amount": format_usdc(statement.amount),
        "payable": format_usdc(statement.payable),
        "period_start_ms": statement.period_start_ms,
        "period_end_ms": statement.period_end_ms,
    }


def _bundle_bytes(found: StatementEvidence, proof: str) -> bytes:
    epochs = [
        {
            "attestation": base64.b64encode(epoch.document).decode(),
            "manifest": msgspec.Raw(epoch.manifest),
            "configuration": msgspec.Raw(epoch.configuration),
        }
        for epoch in found.epochs
    ]
    return msgspec.json.encode({
        "statement": msgspec.Raw(found.statement),
        "receipts": [msgspec.Raw(receipt) for receipt in found.receipts],
        "epochs": epochs,
        "proof": proof,
    })  # fmt: skip


def _query_number(scope: Scope, name: str, *, default: int, most: int) -> int:
    asked = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get(name, [str(default)])
    number = _number(asked[0], most=most) if len(asked) == 1 else None
    if number is None or (name == "limit" and number == 0):
        raise ApiError(INVALID_REQUEST, f"{name} must be a whole number of at most {most}", param=name)
    return number


def _number(text: str, *, most: int) -> int | None:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(most)) else None
    return number if number is not None and number <= most else None


async def _send(scope: Scope, send: Send, shown: dict[str, object]) -> None:
    request_id = scope["state"]["request_id"]
    await send_json(send, msgspec.json.encode(shown), request_id=request_id, headers=(NO_STORE,))
