"""Offline verification of a settlement statement: the bundle and its eight checks (docs/operators.md).

A statement that holds proves what the market owes a node for these receipts. It does not prove that no receipt of the
node was left out, nor that none is in two statements: whoever replays the log sees both.
"""

from typing import Annotated, Final

import msgspec

from pinaivu_shared.canonical import convert, encode
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.epoch import VerifiedEpoch, verify_epoch_archived
from pinaivu_shared.errors import UnreadableError, VerificationError
from pinaivu_shared.evidence_json import parse_evidence
from pinaivu_shared.ids import digest_of
from pinaivu_shared.leaves import MAX_STATEMENT_RECEIPTS, StatementLeaf, verify_leaf, verify_statement_signature
from pinaivu_shared.log.grammar import read_base64
from pinaivu_shared.log.proof import VerifiedInclusion, verify_proof
from pinaivu_shared.manifest import KeyManifest
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.receipt import Receipt, verify_receipt, written_ms
from pinaivu_shared.trust import TrustFile

MAX_STATEMENT_BYTES: Final = 64 * 1024 * 1024
MAX_EPOCHS: Final = MAX_STATEMENT_RECEIPTS + 1
"""Each receipt may be of an epoch of its own, and the statement of yet another."""


class StatementEpoch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One epoch's attestation document in base64, and what it vouches for."""

    attestation: str
    manifest: KeyManifest
    configuration: Configuration


class StatementBundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A statement and everything beside the trust file that verifies it. Nothing of it is verified yet.

    `receipts` are the leaves that the statement names, in its order; `epochs` those that signed them or the statement;
    `proof` is the statement's inclusion in the log (C2SP tlog-proof).
    """

    statement: StatementLeaf
    receipts: Annotated[tuple[Receipt, ...], msgspec.Meta(max_length=MAX_STATEMENT_RECEIPTS)]
    epochs: Annotated[tuple[StatementEpoch, ...], msgspec.Meta(max_length=MAX_EPOCHS)]
    proof: str


class VerifiedStatement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that holds, by the enclave of `epoch`. Made by `verify_statement` only."""

    statement: StatementLeaf
    receipts: tuple[Receipt, ...]
    epoch: VerifiedEpoch
    inclusion: VerifiedInclusion


class _Signer(msgspec.Struct, frozen=True):
    document: str
    epoch: VerifiedEpoch


def parse_statement(raw: bytes) -> StatementBundle:
    """Read a statement's bundle. UnreadableError for what is none, the gateway's error body among it.

    VerificationError("statement bundle") for one that holds a statement, in a shape that none can have.
    """
    if len(raw) > MAX_STATEMENT_BYTES:
        raise UnreadableError(f"statement: {len(raw)} bytes, at most {MAX_STATEMENT_BYTES} are allowed")
    parsed = parse_evidence(raw, what="statement", check="statement bundle")
    if not isinstance(parsed, dict) or not isinstance(parsed.get("statement"), dict):
        raise UnreadableError("statement: not a JSON object with a statement in it")
    return convert(parsed, StatementBundle, check="statement bundle")


def verify_statement(bundle: StatementBundle, trust: TrustFile) -> VerifiedStatement:
    """Check the evidence in this order and return what is proven; the first failure raises VerificationError.

    1 every epoch: document, image, manifest, configuration, log; 2 the statement's signature by the receipt key of one
    of them, 3 and by its settlement key; 4 inclusion in the log, at the statement's index; 5 each receipt's signature
    by the epoch that it names; 6 the receipts are this node's, and exactly those that the statement names; 7 none is
    younger than the period; 8 they pay the amount, which is part of what is payable.
    """
    signers = [_verified_epoch(epoch, trust) for epoch in bundle.epochs]
    epoch = _check_signatures(bundle.statement, signers)
    inclusion = _check_inclusion(bundle.statement, bundle.proof, trust)
    receipts = _check_receipts(bundle.receipts, signers)
    _check_named(bundle.statement, receipts, trust)
    _check_period(bundle.statement, receipts)
    _check_amount(bundle.statement, receipts)
    return VerifiedStatement(statement=bundle.statement, receipts=receipts, epoch=epoch, inclusion=inclusion)


def _verified_epoch(epoch: StatementEpoch, trust: TrustFile) -> _Signer:
    document = read_base64("attestation document", epoch.attestation)
    verified = verify_epoch_archived(document, encode(epoch.manifest), encode(epoch.configuration), trust=trust)
    return _Signer(digest_of(document), verified)


def _check_signatures(statement: StatementLeaf, signers: list[_Signer]) -> VerifiedEpoch:
    """The epoch that wrote the statement. The leaf names none: a log has the leaf of its epoch before it."""
    for signer in signers:
        try:
            verify_leaf(statement, signer.epoch.manifest.receipt_public_key())
        except VerificationError:
            continue
        verify_statement_signature(statement, bytes.fromhex(signer.epoch.manifest.settlement_key))
        return signer.epoch
    raise VerificationError("leaf signature", "the statement is signed by no epoch of this bundle")


def _check_inclusion(statement: StatementLeaf, proof: str, trust: TrustFile) -> VerifiedInclusion:
    inclusion = verify_proof(
        proof,
        leaf=encode(statement),
        origin=trust.origin,
        log_keys=trust.log_keys,
        witnesses=trust.witnesses,
        quorum=trust.quorum,
    )
    if inclusion.index != statement.index:
        raise VerificationError(
            "log index", f"the statement is leaf {statement.index}, the proof is of leaf {inclusion.index}"
        )
    return inclusion


def _check_receipts(receipts: tuple[Receipt, ...], signers: list[_Signer]) -> tuple[Receipt, ...]:
    by_document = {signer.document: signer.epoch for signer in signers}
    verified = []
    for receipt in receipts:
        epoch = by_document.get(receipt.attestation)
        if epoch is None or receipt.coordinator_key != epoch.manifest.coordinator_key():
            raise VerificationError("epoch", f"receipt {receipt.request_id} is of no epoch of this bundle")
        verified.append(verify_receipt(encode(receipt), epoch.manifest.receipt_public_key()))
    return tuple(verified)


def _check_named(statement: StatementLeaf, receipts: tuple[Receipt, ...], trust: TrustFile) -> None:
    if foreign := [receipt.request_id for receipt in receipts if receipt.log.origin != trust.origin]:
        raise VerificationError("origin", f"receipt {foreign[0]} is of another log than {trust.origin!r}")
    if others := [receipt.request_id for receipt in receipts if receipt.node_id != statement.node_id]:
        raise VerificationError("node", f"receipt {others[0]} is another node's than {statement.node_id}")
    indices = tuple(receipt.log.index for receipt in receipts)
    if indices != statement.receipts or list(indices) != sorted({*indices}) or indices[-1] >= statement.index:
        raise VerificationError("receipts", "are not those that the statement names, each once, in order, before it")


def _check_period(statement: StatementLeaf, receipts: tuple[Receipt, ...]) -> None:
    """Receipts from before it are in order: they waited, for a signed checkpoint or for room in a statement."""
    if statement.period_start_ms > statement.period_end_ms:
        raise VerificationError("period", "ends before it begins")
    for receipt in receipts:
        if _written_ms(receipt) >= statement.period_end_ms:
            raise VerificationError("period", f"receipt {receipt.request_id} was written after it")


def _check_amount(statement: StatementLeaf, receipts: tuple[Receipt, ...]) -> None:
    paid = sum(parse_usdc(receipt.payment_amount) for receipt in receipts)
    if paid != statement.amount:
        raise VerificationError("amount", f"{statement.amount} micro-USDC are stated, the receipts pay {paid}")
    if statement.payable < statement.amount:
        raise VerificationError("payable", "is less than the statement's own amount")


def _written_ms(receipt: Receipt) -> int:
    try:
        return written_ms(receipt)
    except ValueError as error:
        raise VerificationError("period", f"receipt {receipt.request_id}: {error}") from error
