"""Log leaves: every state change worth keeping, as canonical JSON of at most 65,535 bytes (DESIGN section 6).

A receipt's leaf is the exact bytes delivered to the customer. The other leaves say their `type`. Every leaf says its
`index` and is signed by the receipt key of its epoch, so that a tail no checkpoint covers yet can still be told from a
forgery, and from leaves in another order.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pinaivu_shared.canonical import CanonicalStruct, Digest, Hex32, Natural, ShortName, decode, encode
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.ids import NodeId, RequestId
from pinaivu_shared.manifest import KeyManifest
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.signed import (
    sign_ed25519,
    sign_p256,
    signature_bytes,
    signature_text,
    verify_ed25519,
    verify_p256,
)
from pinaivu_shared.terms import Ed25519Signature, Order

MAX_LEAF_BYTES: Final = 65_535
MAX_STATEMENT_RECEIPTS: Final = 2_000
"""So many indices at their longest still fit one leaf."""

Base64 = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9+/]*={0,2}\Z", max_length=24_576)]


class ConfigurationLeaf(CanonicalStruct, frozen=True, tag="configuration"):
    """The configuration from here on; its digest is in the manifest of the epoch that it follows."""

    index: Natural
    configuration: Configuration
    coordinator_signature: str


class EpochLeaf(CanonicalStruct, frozen=True, tag="epoch"):
    """A new enclave took over: its attestation document (base64) and key manifest."""

    index: Natural
    attestation: Base64
    manifest: KeyManifest
    coordinator_signature: str


class RegistrationLeaf(CanonicalStruct, frozen=True, tag="registration"):
    """A node that was not known before, or one that changed its operator (`ids.operator_of`)."""

    index: Natural
    node_id: NodeId
    public_key: Hex32
    operator: ShortName
    registered_ms: Natural
    coordinator_signature: str


class OrderLeaf(CanonicalStruct, frozen=True, tag="order"):
    """An order of the operator that was carried out: a deposit or a payout, with its own signature in hex."""

    index: Natural
    order: Order
    operator_signature: Ed25519Signature
    recorded_ms: Natural
    coordinator_signature: str


class SuspensionLeaf(CanonicalStruct, frozen=True, tag="suspension"):
    """A node that is out of every auction until `until_ms`, because of what it signed: `evidence` names the proofs."""

    index: Natural
    node_id: NodeId
    reason: Literal["usage_absurd", "conflicting_proofs"]
    request_id: RequestId
    evidence: Annotated[tuple[Digest, ...], msgspec.Meta(min_length=1, max_length=2)]
    suspended_ms: Natural
    until_ms: Natural
    coordinator_signature: str


class StatementLeaf(CanonicalStruct, frozen=True, tag="statement"):
    """A settlement statement: these receipts pay this node `amount` micro-USDC in all, which is payable from here on.

    `receipts` are the leaf indices, ascending; `number` counts the node's statements from 1; `payable` is what the
    node has to get after this statement. The period ends at `period_end_ms` and begins where the one before ended.
    """

    index: Natural
    node_id: NodeId
    number: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    receipts: Annotated[tuple[Natural, ...], msgspec.Meta(min_length=1, max_length=MAX_STATEMENT_RECEIPTS)]
    amount: Natural
    payable: Natural
    period_start_ms: Natural
    period_end_ms: Natural
    settlement_signature: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{128})?\Z")]
    coordinator_signature: str


SignedLeaf = ConfigurationLeaf | EpochLeaf | RegistrationLeaf | OrderLeaf | SuspensionLeaf | StatementLeaf
Leaf = Receipt | SignedLeaf


def parse_leaf(raw: bytes) -> Leaf:
    """The leaf in these canonical bytes, nothing of it verified; VerificationError("leaf") for anything else."""
    if raw.startswith(b'{"account":"'):
        return decode(raw, Receipt, check="leaf", max_bytes=MAX_LEAF_BYTES)
    leaf: SignedLeaf = decode(raw, SignedLeaf, check="leaf", max_bytes=MAX_LEAF_BYTES)  # type: ignore[arg-type]  # a union
    return leaf


def index_of(leaf: Leaf) -> int:
    """Where the leaf says that it stands in its log."""
    return leaf.log.index if isinstance(leaf, Receipt) else leaf.index


def sign_leaf(unsigned: SignedLeaf, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The leaf's bytes, signed. `unsigned` has an empty signature."""
    signature = signature_text(sign_p256(_signed_bytes(unsigned), key))
    return encode(msgspec.structs.replace(unsigned, coordinator_signature=signature))


def verify_leaf(leaf: SignedLeaf, key: ec.EllipticCurvePublicKey) -> None:
    """Raise VerificationError unless the leaf's signature holds under the receipt key of its epoch."""
    signature = signature_bytes(leaf.coordinator_signature, check="leaf signature")
    verify_p256(signature, _signed_bytes(leaf), key, check="leaf signature")


def sign_statement(unsigned: StatementLeaf, key: Ed25519PrivateKey) -> StatementLeaf:
    """The statement with the signature of the settlement key, in hex; `sign_leaf` comes after it."""
    signature = sign_ed25519("statement", _statement_bytes(unsigned), key).hex()
    return msgspec.structs.replace(unsigned, settlement_signature=signature)


def verify_statement_signature(leaf: StatementLeaf, settlement_key: bytes) -> None:
    """Raise VerificationError unless the settlement key (raw, 32 bytes) signed this statement."""
    signature = bytes.fromhex(leaf.settlement_signature)
    verify_ed25519("statement", _statement_bytes(leaf), signature, settlement_key)


def verify_order(leaf: OrderLeaf, operator_key: bytes) -> None:
    """Raise VerificationError unless the operator's key (raw, 32 bytes) signed this order."""
    verify_ed25519("order", encode(leaf.order), bytes.fromhex(leaf.operator_signature), operator_key)


def _signed_bytes(leaf: SignedLeaf) -> bytes:
    fields: dict[str, Any] = msgspec.to_builtins(leaf)
    del fields["coordinator_signature"]
    return encode(fields)


def _statement_bytes(leaf: StatementLeaf) -> bytes:
    fields: dict[str, Any] = msgspec.to_builtins(leaf)
    del fields["coordinator_signature"], fields["settlement_signature"]
    return encode(fields)
