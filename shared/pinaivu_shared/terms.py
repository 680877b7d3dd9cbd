"""What nodes and the enclave sign to each other, as canonical JSON (DESIGN sections 3 to 5).

Prices are micro-USDC per million tokens, amounts micro-USDC, times milliseconds since 1970.
"""

from typing import Annotated, Final, Literal

import msgspec

from pinaivu_shared.canonical import CanonicalStruct, Digest, Hex32, Name, Natural, OptionalDigest, Text
from pinaivu_shared.configuration import Origin
from pinaivu_shared.ids import AccountId, NodeId, RequestId, SessionId
from pinaivu_shared.money import AMOUNT_MAX

Outcome = Literal["completed", "cancelled", "failed", "refused"]
PositivePrice = Annotated[int, msgspec.Meta(ge=1, le=2**40)]
TOKEN_COUNT_MAX: Final = 2**31
TokenCount = Annotated[int, msgspec.Meta(ge=0, le=TOKEN_COUNT_MAX)]
PROMPT_TOKENS_PER_BYTE_MAX: Final = 8
"""A chat template or an image may be more than the request's bytes and the template allowance, and is not paid; a claim
of more than this many tokens for each of those bytes is absurd, and suspends its node."""

Amount = Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MAX)]
Ed25519Signature = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]
OperatorName = Annotated[str, msgspec.Meta(pattern=r"\A[!-?A-~]{1,31}\Z")]
Reference = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,128}\Z")]
Capability = Literal[
    "chat",
    "completions",
    "embeddings",
    "images",
    "json_object",
    "json_schema",
    "logprobs",
    "multiple_choices",
    "reasoning_effort",
    "tools",
]
"""What a node's engine can do with a model; a job names what it needs. The first three are kinds of jobs:
`POST /v1/chat/completions`, `/v1/completions` and `/v1/embeddings`."""
Capabilities = Annotated[tuple[Capability, ...], msgspec.Meta(min_length=1, max_length=32)]
"""Sorted, each once: `is_canonical`."""
Slots = Annotated[int, msgspec.Meta(ge=1, le=65536)]


def is_canonical(capabilities: Capabilities) -> bool:
    """Whether they are sorted and each is there once, so that there is one way to write them."""
    return list(capabilities) == sorted(set(capabilities))


class Challenge(CanonicalStruct, frozen=True):
    """Enclave: prove that you hold this key, in this session, before it expires."""

    session: SessionId
    node_id: NodeId
    challenge: Hex32
    expires_ms: Natural


class FleetGrant(CanonicalStruct, frozen=True):
    """A node's operator: the node with this public key is mine. Signed (kind "fleet-grant") by the fleet key."""

    operator: OperatorName
    node_key: Hex32


class Registration(CanonicalStruct, frozen=True):
    """Node: the answer to a challenge, and its operator's grant, as name, key and signature of the `FleetGrant`.

    Nodes of one operator never set each other's price, so none can count itself among another's: `ids.operator_of`.
    """

    session: SessionId
    challenge: Hex32
    public_key: Hex32
    operator: OperatorName
    fleet_key: Hex32
    fleet_signature: Ed25519Signature


class Registered(CanonicalStruct, frozen=True):
    """Enclave: this node may now post quotes in this session."""

    session: SessionId
    node_id: NodeId
    registered_ms: Natural


class Quote(CanonicalStruct, frozen=True):
    """Node: a standing offer for one model; one with a later sequence replaces it. `capabilities` are sorted."""

    session: SessionId
    sequence: Natural
    node_id: NodeId
    model: Name
    input_price: PositivePrice
    output_price: PositivePrice
    slots: Slots
    context_length: TokenCount
    capabilities: Capabilities
    expires_ms: Natural


class QuoteAcknowledgement(CanonicalStruct, frozen=True):
    """Enclave: this quote stands; a node left out of an auction can show it."""

    session: SessionId
    sequence: Natural
    node_id: NodeId
    quote: Digest
    acknowledged_ms: Natural
    expires_ms: Natural


class Award(CanonicalStruct, frozen=True):
    """Enclave: the terms of one job for one node. A node runs nothing without it.

    `request_commitment` is over the caller's whole body, `forwarded_commitment` over the part the node receives
    (docs/adr/0003); `request_bytes` is the length of the forwarded part in canonical form. `max_completion_tokens` is 0
    for embeddings and for nothing else.
    """

    request_id: RequestId
    attempt: Annotated[int, msgspec.Meta(ge=1, le=3)]
    node_id: NodeId
    session: SessionId
    model: Name
    request_commitment: Digest
    forwarded_commitment: Digest
    request_bytes: Natural
    quote: Digest
    transcript: Digest
    input_price: Natural
    output_price: Natural
    max_prompt_tokens: TokenCount
    max_completion_tokens: TokenCount
    payment_cap: Natural
    awarded_ms: Natural
    first_token_by_ms: Natural
    deadline_ms: Natural


class Acceptance(CanonicalStruct, frozen=True):
    """Node: I take this award on its terms. `award` is the digest of the award's payload bytes."""

    request_id: RequestId
    node_id: NodeId
    session: SessionId
    award: Digest


class Proof(CanonicalStruct, frozen=True):
    """Node: what was run and delivered under an award.

    Tokens are the engine's own count, zero where it gave none. `response_commitment` is empty when nothing was
    generated. `first_token_ms` and `duration_ms` count from the award's arrival.
    """

    request_id: RequestId
    node_id: NodeId
    session: SessionId
    sequence: Natural
    public_key: Hex32
    award: Digest
    outcome: Literal["completed", "cancelled", "failed"]
    reason: Text
    prompt_tokens: TokenCount
    completion_tokens: TokenCount
    forwarded_commitment: Digest
    response_commitment: OptionalDigest
    first_token_ms: Natural
    duration_ms: Natural


class Deposit(CanonicalStruct, frozen=True, tag="deposit"):
    """Operator: this much credit for this account, paid in (`deposits`) or given (`promotions`).

    `reference` is the operator's own, unique among all orders of the log `origin`: an order counts once.
    """

    origin: Origin
    reference: Reference
    account: AccountId
    amount: Amount
    fund: Literal["deposits", "promotions"]


class Payout(CanonicalStruct, frozen=True, tag="payout"):
    """Operator: this much was paid to this node outside, under this reference, out of what was stated for it."""

    origin: Origin
    reference: Reference
    node_id: NodeId
    amount: Amount


Order = Deposit | Payout


class ReportedQuote(CanonicalStruct, frozen=True):
    """One of the node's quotes in force, and how many of its jobs run under the model now.

    `context_length` is what the quote's counts for: no more than the configuration's `context_length_max`.
    """

    model: Name
    input_price: PositivePrice
    output_price: PositivePrice
    slots: Slots
    context_length: TokenCount
    running: Natural
    expires_ms: Natural


class QualityChange(CanonicalStruct, frozen=True):
    """What one job did to a node's quality: the sample it gave, and the quality after it, in basis points."""

    request_id: RequestId
    reason: Text
    sample_bps: Natural
    quality_bps: Natural


class NodeReport(CanonicalStruct, frozen=True):
    """Enclave: how a node stands. Amounts are micro-USDC; wins and losses count auctions of this epoch.

    `loss_margin_bps` is by how much the node's score was above the winner's, on average over its losses. `earned` is
    what its receipts pay and no statement covers yet, `payable` what was stated and not paid out yet.
    """

    node_id: NodeId
    session: SessionId
    reported_ms: Natural
    quality_bps: Natural
    slots: Natural
    suspended_until_ms: Natural
    changes: tuple[QualityChange, ...]
    quotes: tuple[ReportedQuote, ...]
    wins: Natural
    losses: Natural
    loss_margin_bps: Natural
    earned: Natural
    payable: Natural
    paid_out: Natural
