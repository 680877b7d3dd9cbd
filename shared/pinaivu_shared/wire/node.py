"""Messages between the gateway and a node: msgpack, one per binary WebSocket message.

The gateway carries what node and enclave sign to each other without being able to change it. A session goes:
Hello, Welcome, Register, RegistrationAccepted, then quotes and their acknowledgements, then for each job Offer,
Accept or Decline, Deltas, Prove; the gateway may send Cancel at any time.
"""

from typing import Annotated, Final, Literal

import msgspec

from pinaivu_shared.ids import RequestId
from pinaivu_shared.signed import Signed

NODE_PATH: Final = "/node/v1/connect"
NODE_PROTOCOL: Final = 3
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""From the gateway: an Offer holds a whole request."""
MAX_NODE_MESSAGE_BYTES: Final = 1024 * 1024
"""From a registered node, which cuts what is longer into several Deltas."""
MAX_HANDSHAKE_MESSAGE_BYTES: Final = 128 * 1024
"""From whoever has not registered yet."""
NO_LOGPROBS: Final = msgspec.Raw()

DeclineReason = Literal[
    "busy",
    "draining",
    "engine_unavailable",
    "invalid_award",
    "context_length_exceeded",
    "unsupported_request",
]


class NodeMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Base of all messages on this connection."""


class Hello(NodeMessage, frozen=True):
    """Node: who I am (raw Ed25519 public key), a nonce (32 bytes) for the enclave's attestation, and my software."""

    protocol: int
    public_key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    nonce: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    agent: Annotated[str, msgspec.Meta(max_length=200)]


class Welcome(NodeMessage, frozen=True):
    """Gateway: the enclave's fresh attestation document, canonical manifest and configuration, and its challenge."""

    attestation: bytes
    manifest: bytes
    configuration: bytes
    challenge: Signed


class Register(NodeMessage, frozen=True):
    """Node: a signed `terms.Registration` in answer to the challenge."""

    registration: Signed


class RegistrationAccepted(NodeMessage, frozen=True):
    """Gateway: the enclave's signed `terms.Registered`."""

    registered: Signed


class PostQuote(NodeMessage, frozen=True):
    """Node: a `Signed` quote as msgpack, HPKE-sealed to the enclave's sealing key (`pinaivu_shared.sealing`)."""

    sealed: Annotated[bytes, msgspec.Meta(max_length=16384)]


class QuoteAcknowledged(NodeMessage, frozen=True):
    """Gateway: the enclave's signed `terms.QuoteAcknowledgement`."""

    acknowledgement: Signed


class WithdrawQuotes(NodeMessage, frozen=True):
    """Node: no new jobs for this model, or for any model when `model` is empty; running jobs go on."""

    model: Annotated[str, msgspec.Meta(max_length=255)] = ""


class RequestReport(NodeMessage, frozen=True):
    """Node: how do I stand? Answered by a Report."""


class Report(NodeMessage, frozen=True):
    """Gateway: the enclave's signed `terms.NodeReport`."""

    report: Signed


class Offer(NodeMessage, frozen=True):
    """Gateway: a signed `terms.Award`, the forwarded part of the request as JSON, and the salt of the commitments."""

    award: Signed
    request: bytes
    salt: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Accept(NodeMessage, frozen=True):
    """Node: a signed `terms.Acceptance`; the engine starts."""

    request_id: RequestId
    acceptance: Signed


class Decline(NodeMessage, frozen=True):
    """Node: I will not run this award. `context_length_exceeded` and `unsupported_request` are the caller's mistake.

    It answers an offer: after the first token it is a failure, whatever the reason.
    """

    request_id: RequestId
    reason: DeclineReason
    detail: Annotated[str, msgspec.Meta(max_length=2000)] = ""


class ToolCallDelta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A piece of one tool call: its arguments come in pieces to be joined, id and name with the first.

    Calls are numbered from 0 on in the order of their beginnings: a caller's client appends each to a list.
    """

    index: Annotated[int, msgspec.Meta(ge=0, le=1024)]
    id: str = ""
    name: str = ""
    arguments: str = ""


class Delta(NodeMessage, frozen=True, omit_defaults=True):
    """Node: a piece of the answer. `finish_reason` comes once per choice, in a delta of its own, as the last.

    `logprobs` is msgpack that nobody has looked into: of OpenAI's shape if the node is honest.
    """

    request_id: RequestId
    content: str = ""
    index: Annotated[int, msgspec.Meta(ge=0, le=127)] = 0
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: msgspec.Raw = NO_LOGPROBS
    finish_reason: Literal["", "stop", "length", "tool_calls", "content_filter"] = ""


class Prove(NodeMessage, frozen=True):
    """Node: a signed `terms.Proof`; nothing follows it for this job."""

    request_id: RequestId
    proof: Signed


class Cancel(NodeMessage, frozen=True):
    """Gateway: stop this job now and prove what was generated."""

    request_id: RequestId


class Goodbye(NodeMessage, frozen=True):
    """Gateway: why the connection is about to be closed, for the operator's log."""

    code: Annotated[str, msgspec.Meta(max_length=100)]
    detail: Annotated[str, msgspec.Meta(max_length=2000)]


FromNode = Hello | Register | PostQuote | WithdrawQuotes | RequestReport | Accept | Decline | Delta | Prove
FromGateway = Welcome | RegistrationAccepted | QuoteAcknowledged | Report | Offer | Cancel | Goodbye

_encoder: Final = msgspec.msgpack.Encoder()
_from_node: Final[msgspec.msgpack.Decoder[FromNode]] = msgspec.msgpack.Decoder(FromNode)
_from_gateway: Final[msgspec.msgpack.Decoder[FromGateway]] = msgspec.msgpack.Decoder(FromGateway)


def encode(message: NodeMessage) -> bytes:
    """One binary WebSocket message."""
    return _encoder.encode(message)


def decode_from_node(raw: bytes) -> FromNode:
    """What a node sent; msgspec.DecodeError, UnicodeDecodeError or RecursionError for garbage."""
    return _from_node.decode(raw)


def decode_from_gateway(raw: bytes) -> FromGateway:
    """What a gateway sent; msgspec.DecodeError, UnicodeDecodeError or RecursionError for garbage."""
    return _from_gateway.decode(raw)
