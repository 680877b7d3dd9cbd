"""What nodes and the enclave sign to each other, as canonical JSON (DESIGN sections 3 to 5).

Prices are micro-USDC per million tokens, amounts micro-USDC, times milliseconds since 1970.
"""

from typing import Annotated, Literal

import msgspec

from pinaivu_shared.canonical import CanonicalStruct, Digest, Hex32, Name, Natural, OptionalDigest, ShortName, Text
from pinaivu_shared.ids import NodeId, RequestId, SessionId

Outcome = Literal["completed", "cancelled", "failed", "refused"]
PositivePrice = Annotated[int, msgspec.Meta(ge=1, le=2**40)]
TokenCount = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Slots = Annotated[int, msgspec.Meta(ge=1, le=65536)]


class Challenge(CanonicalStruct, frozen=True):
    """Enclave: prove that you hold this key, in this session, before it expires."""

    session: SessionId
    node_id: NodeId
    challenge: Hex32
    expires_ms: Natural


class Registration(CanonicalStruct, frozen=True):
    """Node: the answer to a challenge. `operator` groups nodes of one owner, which never set each other's price."""

    session: SessionId
    challenge: Hex32
    public_key: Hex32
    operator: ShortName


class Registered(CanonicalStruct, frozen=True):
    """Enclave: this node may now post quotes in this session."""

    session: SessionId
    node_id: NodeId
    registered_ms: Natural


class Quote(CanonicalStruct, frozen=True):
    """Node: a standing offer for one model; one with a later sequence replaces it."""

    session: SessionId
    sequence: Natural
    node_id: NodeId
    model: Name
    input_price: PositivePrice
    output_price: PositivePrice
    slots: Slots
    context_length: TokenCount
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
    (docs/adr/0003); `request_bytes` is the length of the forwarded part in canonical form.
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
