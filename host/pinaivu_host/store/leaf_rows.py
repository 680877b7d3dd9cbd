"""Which rows a leaf is projected into, beside the leaf itself and the tree.

A projection has nothing that is not in a leaf, but for what the gateway knows of a job and the log must not say.
"""

import base64
from dataclasses import dataclass, field
from typing import Any, assert_never

from sqlalchemy import Table

from pinaivu_host.store.schema import (
    CONFIGURATIONS,
    EPOCHS,
    NODE_PROOFS,
    NODES,
    ORDERS,
    RECEIPTS,
    STATEMENTS,
    SUSPENSIONS,
    TRANSCRIPTS,
)
from pinaivu_shared.canonical import encode
from pinaivu_shared.ids import digest_of, request_time_ms
from pinaivu_shared.leaves import (
    ConfigurationLeaf,
    EpochLeaf,
    Leaf,
    OrderLeaf,
    RegistrationLeaf,
    StatementLeaf,
    SuspensionLeaf,
)
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.signed import Signed

Row = tuple[Table, dict[str, Any]]


@dataclass(slots=True)
class JobRecord:
    """What the gateway knows about a job and the log does not say: salt, transcripts, the node's proof, who asked."""

    salt: bytes
    transcripts: list[bytes] = field(default_factory=list)
    proof: Signed | None = None
    key_id: str | None = None


def rows_of(leaf: Leaf, index: int, record: JobRecord | None) -> list[Row]:  # noqa: PLR0911 - one line per leaf
    """The projection of one leaf. `record` is of the job whose receipt it is, where this host has it."""
    match leaf:
        case Receipt():
            return [_receipt(leaf, index, record), *_evidence(record)]
        case ConfigurationLeaf():
            content = encode(leaf.configuration)
            row = {"digest": digest_of(content), "leaf_index": index, "configuration": content}
            return [(CONFIGURATIONS, row)]
        case EpochLeaf():
            return [_epoch(leaf, index)]
        case RegistrationLeaf():
            row = {"node_id": leaf.node_id, "operator": leaf.operator, "registered_ms": leaf.registered_ms}
            return [(NODES, row)]
        case OrderLeaf():
            return [_order(leaf, index)]
        case StatementLeaf():
            return [_statement(leaf, index)]
        case SuspensionLeaf():
            return [_suspension(leaf, index)]
        case _:
            assert_never(leaf)


def _receipt(receipt: Receipt, index: int, record: JobRecord | None) -> Row:
    return RECEIPTS, {
        "request_id": receipt.request_id,
        "leaf_index": index,
        "account_id": receipt.account,
        "salt": record.salt if record else None,
        "key_id": record.key_id if record else None,
        "charge_micro_usdc": parse_usdc(receipt.charge_amount),
        "payment_micro_usdc": parse_usdc(receipt.payment_amount),
        "model": receipt.model,
        "node_id": receipt.node_id,
        "outcome": receipt.outcome,
        "reason": receipt.reason,
        "prompt_tokens": receipt.prompt_tokens,
        "completion_tokens": receipt.completion_tokens,
        "transcript": receipt.auction.transcript,
        "node_proof": receipt.node_proof,
        "attestation": receipt.attestation,
        "created_ms": request_time_ms(receipt.request_id),
    }


def _evidence(record: JobRecord | None) -> list[Row]:
    if record is None:
        return []
    rows: list[Row] = [
        (TRANSCRIPTS, {"digest": digest_of(transcript), "transcript": transcript}) for transcript in record.transcripts
    ]
    if record.proof is not None:
        payload, signature = record.proof.payload, record.proof.signature
        rows.append((NODE_PROOFS, {"digest": digest_of(payload), "payload": payload, "signature": signature}))
    return rows


def _epoch(leaf: EpochLeaf, index: int) -> Row:
    document = base64.b64decode(leaf.attestation)
    return EPOCHS, {
        "attestation": digest_of(document),
        "leaf_index": index,
        "document": document,
        "manifest": encode(leaf.manifest),
        "configuration": leaf.manifest.configuration,
    }


def _order(leaf: OrderLeaf, index: int) -> Row:
    return ORDERS, {
        "reference": leaf.order.reference,
        "payload": encode(leaf.order),
        "signature": bytes.fromhex(leaf.operator_signature),
        "created_ms": leaf.recorded_ms,
        "leaf_index": index,
        "refusal": None,
    }


def _statement(leaf: StatementLeaf, index: int) -> Row:
    return STATEMENTS, {
        "node_id": leaf.node_id,
        "number": leaf.number,
        "leaf_index": index,
        "amount_micro_usdc": leaf.amount,
        "payable_micro_usdc": leaf.payable,
        "period_start_ms": leaf.period_start_ms,
        "period_end_ms": leaf.period_end_ms,
    }


def _suspension(leaf: SuspensionLeaf, index: int) -> Row:
    return SUSPENSIONS, {
        "leaf_index": index,
        "node_id": leaf.node_id,
        "reason": leaf.reason,
        "request_id": leaf.request_id,
        "suspended_ms": leaf.suspended_ms,
        "until_ms": leaf.until_ms,
    }
