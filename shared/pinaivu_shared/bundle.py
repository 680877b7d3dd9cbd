"""Offline verification of a receipt: the bundle and its eleven checks (DESIGN section 10).

Each failure is a VerificationError whose `check` says which piece of evidence does not hold.
"""

import base64
import binascii
from typing import Any, Final

import msgspec

from pinaivu_shared.canonical import Hex32, convert, decode, encode
from pinaivu_shared.commitments import request_commitment, response_commitment
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.epoch import VerifiedEpoch, verify_epoch_archived
from pinaivu_shared.errors import UnreadableError, VerificationError
from pinaivu_shared.evidence_json import parse_evidence
from pinaivu_shared.forwarding import Endpoint
from pinaivu_shared.ids import digest_of, node_id_of
from pinaivu_shared.log.proof import VerifiedInclusion, verify_proof
from pinaivu_shared.manifest import KeyManifest
from pinaivu_shared.money import amount_owed, charge_on, parse_usdc
from pinaivu_shared.own_copies import OwnRequest, check_answer, check_request
from pinaivu_shared.receipt import Receipt, verify_receipt
from pinaivu_shared.second_score import Transcript, verify_transcript
from pinaivu_shared.signed import Signed, load_node_key, verify_node
from pinaivu_shared.terms import Proof
from pinaivu_shared.trust import TrustFile

MAX_BUNDLE_BYTES: Final = 8 * 1024 * 1024


class Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What opens the commitments; only the request's owner has it."""

    salt: Hex32


class NodeProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The node's signed `terms.Proof`: payload and signature in base64."""

    payload: str
    signature: str


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything beside the trust file that offline verification needs. Nothing of it is verified yet."""

    receipt: Receipt
    attestation: str
    manifest: KeyManifest
    configuration: Configuration
    transcript: Transcript
    proof: str
    node_proof: NodeProof | None = None
    opening: Opening | None = None


class VerifiedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt that holds. `opened` names the commitments that were opened with the caller's own request or answer.

    They are of the whole "request", of what of it the node was given ("forwarded"), and of the "response".
    """

    receipt: Receipt
    epoch: VerifiedEpoch
    transcript: Transcript
    inclusion: VerifiedInclusion
    opened: tuple[str, ...]


def parse_bundle(raw: bytes) -> Bundle:
    """Read a bundle. UnreadableError for what is none, the gateway's error body among it.

    VerificationError("bundle") for one that holds a receipt, and that or other evidence in a shape that none can have.
    """
    if len(raw) > MAX_BUNDLE_BYTES:
        raise UnreadableError(f"bundle: {len(raw)} bytes, at most {MAX_BUNDLE_BYTES} are allowed")
    parsed = parse_evidence(raw, what="bundle", check="bundle")
    if not isinstance(parsed, dict) or not isinstance(parsed.get("receipt"), dict):
        raise UnreadableError("bundle: not a JSON object with a receipt in it")
    return convert(parsed, Bundle, check="bundle")


def verify_bundle(
    bundle: Bundle,
    trust: TrustFile,
    *,
    request: Any = None,  # noqa: ANN401 - any JSON value
    choices: list[dict[str, Any]] | None = None,
    endpoint: Endpoint | None = None,
) -> VerifiedBundle:
    """Check the evidence in this order and return what is proven; the first failure raises VerificationError.

    1 attestation document and image, 2 manifest, configuration, platform and log keys, 3 receipt signature,
    4 epoch named by the receipt, 5 transcript run again, 6 auction on the receipt, 7 payment, 8 node proof,
    9 inclusion in the log; where the caller's `request` body or answer `choices` are given, 10 commitments, 11 model,
    what the node was given, and bounds on the tokens. `endpoint` is which one was asked, as the answer's shape tells
    (`answers`); without it nothing is claimed of what the node was given for a body that several endpoints take.
    """
    document = _base64(bundle.attestation, check="attestation document")
    epoch = verify_epoch_archived(document, encode(bundle.manifest), encode(bundle.configuration), trust=trust)
    leaf = encode(bundle.receipt)
    receipt = verify_receipt(leaf, epoch.manifest.receipt_public_key())
    _check_epoch(receipt, epoch, document)
    transcript = _check_transcript(receipt, encode(bundle.transcript), epoch.configuration)
    _check_payment(receipt, epoch.configuration)
    proof = _check_node_proof(receipt, bundle.node_proof)
    inclusion = _check_inclusion(receipt, leaf, bundle.proof, trust)
    salt = _salt(bundle.opening, needed=request is not None or choices is not None)
    opened = _open_commitments(receipt, salt, request, choices)
    limits = epoch.configuration.metering
    if request is not None and check_request(receipt, proof, limits, OwnRequest(request, endpoint, salt)):
        opened.insert(1, "forwarded")
    if choices is not None:
        check_answer(receipt, limits, choices)
    return VerifiedBundle(
        receipt=receipt, epoch=epoch, transcript=transcript, inclusion=inclusion, opened=tuple(opened)
    )


def _check_epoch(receipt: Receipt, epoch: VerifiedEpoch, document: bytes) -> None:
    if receipt.coordinator_key != epoch.manifest.coordinator_key():
        raise VerificationError("coordinator key", "the receipt names another key than the attested one")
    if receipt.attestation != digest_of(document):
        raise VerificationError("epoch", "the receipt names another attestation document than the bundle's")


def _check_transcript(receipt: Receipt, raw: bytes, configuration: Configuration) -> Transcript:
    if receipt.auction.transcript != digest_of(raw):
        raise VerificationError("transcript", "is not the one whose digest the receipt carries")
    transcript = verify_transcript(raw)
    terms = configuration.model(transcript.model)
    reserve = (transcript.input_reserve_price, transcript.output_reserve_price)
    if terms is None or (terms.input_reserve_price, terms.output_reserve_price) != reserve:
        raise VerificationError("reserve price", "the transcript's is not the configuration's for this model")
    found = (
        receipt.request_id,
        receipt.model,
        receipt.node_id,
        receipt.auction.bids,
        receipt.auction.input_price,
        receipt.auction.output_price,
    )
    held = (
        transcript.request_id,
        transcript.model,
        transcript.bids[0].bid.node_id,
        len(transcript.bids),
        transcript.input_price,
        transcript.output_price,
    )
    if found != held:
        raise VerificationError("auction", "request, model, node, bids or prices differ from the transcript's")
    return transcript


def _check_payment(receipt: Receipt, configuration: Configuration) -> None:
    owed = amount_owed(
        input_price=receipt.auction.input_price,
        prompt_tokens=receipt.prompt_tokens,
        output_price=receipt.auction.output_price,
        completion_tokens=receipt.completion_tokens,
    )
    if parse_usdc(receipt.payment_amount) != owed:
        raise VerificationError("payment", f"{receipt.payment_amount} is not prices times tokens, {owed} micro-USDC")
    charge = charge_on(owed, configuration.fee_bps)
    if parse_usdc(receipt.charge_amount) != charge:
        raise VerificationError("charge", f"{receipt.charge_amount} is not payment plus fee, {charge} micro-USDC")


def _check_node_proof(receipt: Receipt, found: NodeProof | None) -> Proof | None:
    if (found is None) != (receipt.node_proof == ""):
        raise VerificationError("node proof", "bundle and receipt disagree on whether there is one")
    if found is None:
        return None
    signed = Signed(_base64(found.payload, check="node proof"), _base64(found.signature, check="node proof"))
    if digest_of(signed.payload) != receipt.node_proof:
        raise VerificationError("node proof", "is not the one whose digest the receipt carries")
    proof = decode(signed.payload, Proof, check="node proof")
    public_key = bytes.fromhex(proof.public_key)
    verify_node("proof", signed, load_node_key(public_key))
    if (node_id_of(public_key), proof.node_id, proof.request_id) != (
        receipt.node_id,
        receipt.node_id,
        receipt.request_id,
    ):
        raise VerificationError("node proof", "is by another node or for another request")
    return proof


def _check_inclusion(receipt: Receipt, leaf: bytes, proof: str, trust: TrustFile) -> VerifiedInclusion:
    if receipt.log.origin != trust.origin:
        raise VerificationError("origin", f"the receipt's log is {receipt.log.origin!r}, trusted is {trust.origin!r}")
    inclusion = verify_proof(
        proof,
        leaf=leaf,
        origin=trust.origin,
        log_keys=trust.log_keys,
        witnesses=trust.witnesses,
        quorum=trust.quorum,
    )
    if inclusion.index != receipt.log.index:
        raise VerificationError("log index", f"the receipt names leaf {receipt.log.index}, the proof {inclusion.index}")
    return inclusion


def _salt(opening: Opening | None, *, needed: bool) -> bytes:
    if opening is not None:
        return bytes.fromhex(opening.salt)
    if needed:
        raise VerificationError("commitment", "this bundle has no salt: only the owner's bundle opens commitments")
    return b""


def _open_commitments(
    receipt: Receipt,
    salt: bytes,
    request: Any,  # noqa: ANN401 - any JSON value
    choices: list[dict[str, Any]] | None,
) -> list[str]:
    opened = []
    if request is not None:
        if request_commitment(request, salt) != receipt.request_commitment:
            raise VerificationError("request commitment", "does not open with this request and salt")
        opened.append("request")
    if choices is not None:
        if response_commitment(choices, salt) != receipt.response_commitment:
            raise VerificationError("response commitment", "does not open with this answer and salt")
        opened.append("response")
    return opened


def _base64(text: str, *, check: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise VerificationError(check, f"not base64: {error}") from error
    if base64.b64encode(raw).decode() != text:
        raise VerificationError(check, "not canonical base64")
    return raw
