"""Log leaves: every state change worth keeping, as canonical JSON of at most 65,535 bytes (DESIGN section 6).

A receipt's leaf is the exact bytes delivered to the customer. The other leaves say their `type`, and each is signed by
the receipt key of its epoch, so that a tail no checkpoint covers yet can still be told from a forgery.
"""

from typing import Annotated, Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from pinaivu_shared.canonical import CanonicalStruct, Hex32, Natural, ShortName, decode, encode
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.ids import NodeId
from pinaivu_shared.manifest import KeyManifest
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.signed import sign_p256, signature_bytes, signature_text, verify_p256

MAX_LEAF_BYTES: Final = 65_535
Base64 = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9+/]*={0,2}\Z", max_length=24_576)]


class ConfigurationLeaf(CanonicalStruct, frozen=True, tag="configuration"):
    """The configuration from here on; its digest is in the manifest of the epoch that follows."""

    configuration: Configuration
    coordinator_signature: str


class EpochLeaf(CanonicalStruct, frozen=True, tag="epoch"):
    """A new enclave took over: its attestation document (base64) and key manifest."""

    attestation: Base64
    manifest: KeyManifest
    coordinator_signature: str


class RegistrationLeaf(CanonicalStruct, frozen=True, tag="registration"):
    """A node that was not known before, or one that changed its operator."""

    node_id: NodeId
    public_key: Hex32
    operator: ShortName
    registered_ms: Natural
    coordinator_signature: str


SignedLeaf = ConfigurationLeaf | EpochLeaf | RegistrationLeaf
Leaf = Receipt | SignedLeaf


def parse_leaf(raw: bytes) -> Leaf:
    """The leaf in these canonical bytes, nothing of it verified; VerificationError("leaf") for anything else."""
    if raw.startswith(b'{"attestation":"sha256:'):
        return decode(raw, Receipt, check="leaf", max_bytes=MAX_LEAF_BYTES)
    leaf: SignedLeaf = decode(raw, SignedLeaf, check="leaf", max_bytes=MAX_LEAF_BYTES)  # type: ignore[arg-type]  # a union
    return leaf


def sign_leaf(unsigned: SignedLeaf, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The leaf's bytes, signed. `unsigned` has an empty signature."""
    signature = signature_text(sign_p256(_signed_bytes(unsigned), key))
    return encode(msgspec.structs.replace(unsigned, coordinator_signature=signature))


def verify_leaf(leaf: SignedLeaf, key: ec.EllipticCurvePublicKey) -> None:
    """Raise VerificationError unless the leaf's signature holds under the receipt key of its epoch."""
    signature = signature_bytes(leaf.coordinator_signature, check="leaf signature")
    verify_p256(signature, _signed_bytes(leaf), key, check="leaf signature")


def _signed_bytes(leaf: SignedLeaf) -> bytes:
    fields: dict[str, Any] = msgspec.to_builtins(leaf)
    del fields["coordinator_signature"]
    return encode(fields)
