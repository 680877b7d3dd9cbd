"""The routing receipt: what the enclave signs about one job (DESIGN section 5).

It proves that an attested program gave this job to this node under this auction at this price and metered this many
tokens. It does not prove that the node ran the weights it named: nodes have no enclave.
"""

import datetime as dt
from typing import Annotated, Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from pinaivu_shared.canonical import (
    CanonicalStruct,
    Digest,
    Hex32,
    Name,
    Natural,
    OptionalDigest,
    Text,
    decode,
    encode,
)
from pinaivu_shared.configuration import Origin
from pinaivu_shared.ids import AccountId, NodeId, RequestId
from pinaivu_shared.signed import sign_p256, signature_bytes, signature_text, verify_p256
from pinaivu_shared.terms import Outcome, TokenCount

MAX_RECEIPT_BYTES: Final = 65_535
Timestamp = Annotated[str, msgspec.Meta(pattern=r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")]
PaymentAmount = Annotated[str, msgspec.Meta(pattern=r"\A(0|[1-9][0-9]{0,9})\.[0-9]{6} USDC\Z")]


class ReceiptAuction(CanonicalStruct, frozen=True):
    """The auction a job was given away in: its rule, number of eligible bids, clearing prices and transcript."""

    rule: Literal["second-score-v1"]
    bids: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    input_price: Natural
    output_price: Natural
    transcript: Digest


class FailedAttempt(CanonicalStruct, frozen=True):
    """An earlier award of the job whose node did not answer, and why, as the host reported it."""

    node_id: NodeId
    reason: Text


class ReceiptTiming(CanonicalStruct, frozen=True):
    """Milliseconds from the award in force by the enclave's clock: to the first token (0: none), to settlement."""

    first_token_ms: Natural
    duration_ms: Natural


class LogPosition(CanonicalStruct, frozen=True):
    """Where the receipt's leaf stands: the log's origin and the leaf's index, from 0."""

    origin: Origin
    index: Natural


class Receipt(CanonicalStruct, frozen=True):
    """A receipt as parsed; nothing in it is verified until `verify_receipt` returned it.

    The account pays `charge_amount`: the payment to the node and the market's fee on it.
    """

    version: Literal[1]
    request_id: RequestId
    account: AccountId
    node_id: NodeId
    model: Name
    timestamp: Timestamp
    payment_amount: PaymentAmount
    charge_amount: PaymentAmount
    outcome: Outcome
    reason: Text
    prompt_tokens: TokenCount
    completion_tokens: TokenCount
    request_commitment: Digest
    response_commitment: OptionalDigest
    auction: ReceiptAuction
    failed_attempts: Annotated[tuple[FailedAttempt, ...], msgspec.Meta(max_length=2)]
    timing: ReceiptTiming
    node_proof: OptionalDigest
    log: LogPosition
    coordinator_key: Hex32
    attestation: Digest
    coordinator_signature: str


def sign_receipt(unsigned: Receipt, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The exact bytes of the signed receipt, which are also its log leaf. `unsigned` has an empty signature."""
    signature = signature_text(sign_p256(_signed_bytes(unsigned), key))
    return encode(msgspec.structs.replace(unsigned, coordinator_signature=signature))


def verify_receipt(raw: bytes, key: ec.EllipticCurvePublicKey) -> Receipt:
    """The receipt, once its bytes are canonical and its signature holds under `key`; VerificationError otherwise."""
    receipt = decode(raw, Receipt, check="receipt", max_bytes=MAX_RECEIPT_BYTES)
    signature = signature_bytes(receipt.coordinator_signature, check="receipt signature")
    verify_p256(signature, _signed_bytes(receipt), key, check="receipt signature")
    return receipt


def written_ms(receipt: Receipt) -> int:
    """Milliseconds since 1970 of its timestamp, which is to the second; ValueError for one that no calendar has."""
    return int(dt.datetime.fromisoformat(receipt.timestamp).timestamp()) * 1000


def _signed_bytes(receipt: Receipt) -> bytes:
    fields = {name: getattr(receipt, name) for name in receipt.__struct_fields__ if name != "coordinator_signature"}
    return encode(fields)
