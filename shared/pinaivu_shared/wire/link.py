"""The enclave link: what host and enclave say to each other over vsock.

Frames are a 4-byte big-endian length and that many bytes of msgpack, at most MAX_FRAME_BYTES. The host sends `Call`s,
the enclave answers each with one `Answer` of the same id, in any order, and pushes `LeafAppended` and
`CheckpointSigned` on its own. A leaf is always pushed before the answer that mentions it.
"""

from typing import Annotated, Final, Literal

import msgspec

from pinaivu_shared.ids import AccountId, RequestId, SessionId
from pinaivu_shared.signed import Signed
from pinaivu_shared.terms import Capabilities
from pinaivu_shared.wire.link_boot import (
    Configure,
    FinishResume,
    Introduce,
    Introduction,
    OpenVault,
    Resume,
    VaultOpened,
)
from pinaivu_shared.wire.link_message import LinkMessage

LINK_PROTOCOL: Final = 5
MAX_FRAME_BYTES: Final = 1 << 20

Commitment = Annotated[str, msgspec.Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
RefusedReason = Literal[
    "unknown_model",
    "no_node",
    "no_capable_node",
    "no_free_slot",
    "context_length_exceeded",
    "insufficient_credit",
    "credit_held",
]
Reason = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9_]{0,64}\Z")]


class Attest(LinkMessage, frozen=True):
    """Host: a fresh attestation document over this nonce (0 to 1024 bytes)."""

    nonce: Annotated[bytes, msgspec.Meta(max_length=1024)]


class Attestation(LinkMessage, frozen=True):
    """Enclave: document, and the canonical bytes of manifest and configuration."""

    document: bytes
    manifest: bytes
    configuration: bytes


class RequestChallenge(LinkMessage, frozen=True):
    """Host: a node with this Ed25519 public key (32 bytes) wants to register."""

    public_key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class ChallengeIssued(LinkMessage, frozen=True):
    """Enclave: a signed `terms.Challenge`, and the session it opens."""

    session: SessionId
    challenge: Signed


class RegisterNode(LinkMessage, frozen=True):
    """Host: the node's signed `terms.Registration`."""

    session: SessionId
    registration: Signed


class NodeRegistered(LinkMessage, frozen=True):
    """Enclave: a signed `terms.Registered`. An older session of the same node has ended."""

    node_id: str
    registered: Signed


class PostSealedQuote(LinkMessage, frozen=True):
    """Host: a node's sealed quote (see `wire.node.PostQuote`)."""

    session: SessionId
    sealed: Annotated[bytes, msgspec.Meta(max_length=16384)]


class QuotePosted(LinkMessage, frozen=True):
    """Enclave: a signed `terms.QuoteAcknowledgement`, and the model it is for."""

    model: str
    acknowledgement: Signed


class WithdrawQuotes(LinkMessage, frozen=True):
    """Host: this session takes no new jobs for `model`, or for any when it is empty."""

    session: SessionId
    model: Annotated[str, msgspec.Meta(max_length=255)]


class EndSession(LinkMessage, frozen=True):
    """Host: the node of this session is gone; its quotes fall."""

    session: SessionId


class ReadNodeReport(LinkMessage, frozen=True):
    """Host: the node of this session wants to know how it stands."""

    session: SessionId


class NodeReported(LinkMessage, frozen=True):
    """Enclave: a signed `terms.NodeReport`."""

    report: Signed


class RecordOrder(LinkMessage, frozen=True):
    """Host: the operator's `terms.Deposit` or `terms.Payout` in canonical form, and its signature (Ed25519)."""

    order: Signed


class OrderRecorded(LinkMessage, frozen=True):
    """Enclave: the order was carried out; it is leaf `index`. One recorded before is refused: `duplicate_order`."""

    index: int


class OpenJob(LinkMessage, frozen=True):
    """Host: hold an auction for this request, on credit of this account.

    `request_bytes` is the canonical length of the forwarded part. `max_tokens` 0 means up to the context's end, and is
    over all choices together. `needs` are sorted; only nodes whose quote has them all are eligible. `may_be_empty` says
    that the caller's own stop sequences may end the answer before its first character.
    """

    request_id: RequestId
    account: AccountId
    model: Annotated[str, msgspec.Meta(max_length=255)]
    request_commitment: Commitment
    forwarded_commitment: Commitment
    request_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**31)]
    max_tokens: Tokens
    needs: Capabilities
    may_be_empty: bool


class Awarded(LinkMessage, frozen=True):
    """Enclave: a signed `terms.Award` for the node of `session`, and the auction's transcript (canonical bytes)."""

    request_id: RequestId
    session: SessionId
    node_id: str
    attempt: int
    award: Signed
    transcript: bytes


class JobRefused(LinkMessage, frozen=True):
    """Enclave: no award, no job, nothing logged.

    `credit_held`: the account's credit would do, but other jobs hold it until they are settled.
    """

    request_id: RequestId
    reason: RefusedReason


class AcceptAward(LinkMessage, frozen=True):
    """Host: the node's signed `terms.Acceptance`."""

    request_id: RequestId
    acceptance: Signed


class AwardAccepted(LinkMessage, frozen=True):
    """Enclave: the job runs."""

    request_id: RequestId


class ReportFirstToken(LinkMessage, frozen=True):
    """Host: the node of award number `attempt` has begun to answer. From here on the job goes to no other node."""

    request_id: RequestId
    attempt: int


class ReportFailure(LinkMessage, frozen=True):
    """Host: the node of award number `attempt` failed before its first token. Answered by Awarded or JobSettled."""

    request_id: RequestId
    attempt: int
    reason: Reason


class Delivery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the gateway handed to the caller: UTF-8 bytes of generated text, and the commitment over the choices.

    `recounted_tokens` and `recounted_prompt_tokens` are the gateway's own counts of the answer and of the request's
    text, where it knows the model's tokenizer. They can only lower what a node is paid.
    """

    delivered_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**40)]
    response_commitment: Annotated[str, msgspec.Meta(pattern=r"\A(sha256:[0-9a-f]{64})?\Z")]
    recounted_tokens: Tokens | None = None
    recounted_prompt_tokens: Tokens | None = None


class SettleJob(LinkMessage, frozen=True):
    """Host: the job ended this way. `proof` is the node's signed `terms.Proof`, None where none came.

    A job that was settled before is refused with `already_settled`: its receipt stands.
    """

    request_id: RequestId
    outcome: Literal["completed", "cancelled", "failed"]
    reason: Reason
    delivery: Delivery
    proof: Signed | None


class JobSettled(LinkMessage, frozen=True):
    """Enclave: the receipt's exact bytes, which are leaf `index`, and what the customer owes in micro-USDC."""

    request_id: RequestId
    index: int
    receipt: bytes
    charge: int


class ReportProof(LinkMessage, frozen=True):
    """Host: a signed `terms.Proof` that came after the settlement. It pays nothing; two that differ are evidence."""

    request_id: RequestId
    proof: Signed


class AcknowledgeLeaves(LinkMessage, frozen=True):
    """Host: all leaves below `size` are durable."""

    size: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Done(LinkMessage, frozen=True):
    """Enclave: the command was carried out; there is nothing to say."""


class Refused(LinkMessage, frozen=True):
    """Enclave: the command was refused and changed nothing. `code` is stable, `detail` for people."""

    code: str
    detail: str


class LeafAppended(LinkMessage, frozen=True):
    """Enclave: store this leaf, then acknowledge it."""

    index: int
    leaf: bytes


class CheckpointSigned(LinkMessage, frozen=True):
    """Enclave: a signed checkpoint (C2SP tlog-checkpoint) over `size` durable leaves."""

    size: int
    checkpoint: str


HostCommand = (
    Introduce
    | Configure
    | OpenVault
    | Resume
    | FinishResume
    | Attest
    | RequestChallenge
    | RegisterNode
    | PostSealedQuote
    | WithdrawQuotes
    | EndSession
    | ReadNodeReport
    | RecordOrder
    | OpenJob
    | AcceptAward
    | ReportFirstToken
    | ReportFailure
    | SettleJob
    | ReportProof
    | AcknowledgeLeaves
)
Result = (
    Introduction
    | VaultOpened
    | Attestation
    | ChallengeIssued
    | NodeRegistered
    | QuotePosted
    | NodeReported
    | OrderRecorded
    | Awarded
    | JobRefused
    | AwardAccepted
    | JobSettled
    | Done
    | Refused
)
Push = LeafAppended | CheckpointSigned


class Call(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One command of the host; `id` is the host's, unique among its calls in flight."""

    id: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    command: HostCommand


class Answer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The enclave's answer to call `id`; pushes have id 0."""

    id: int
    result: Result | Push
