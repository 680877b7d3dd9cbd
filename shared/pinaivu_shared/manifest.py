"""The key manifest: the four public keys of one epoch, bound to an attestation document by its `user_data`."""

import hashlib
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from pinaivu_shared.canonical import CanonicalStruct, Digest, Hex, Hex32, Natural, encode
from pinaivu_shared.configuration import Origin
from pinaivu_shared.signed import load_receipt_key


class KeyManifest(CanonicalStruct, frozen=True):
    """Public keys in lowercase hex: `receipt_key` as SubjectPublicKeyInfo DER, the others as 32 raw bytes."""

    version: Literal[1]
    origin: Origin
    epoch: Natural
    configuration: Digest
    receipt_key: Hex
    sealing_key: Hex32
    checkpoint_key: Hex32
    settlement_key: Hex32

    def user_data(self) -> bytes:
        """SHA-256 of the canonical bytes: what the attestation document carries (DESIGN section 5)."""
        return hashlib.sha256(encode(self)).digest()

    def receipt_public_key(self) -> ec.EllipticCurvePublicKey:
        """The P-256 key that signs awards and receipts in this epoch."""
        return load_receipt_key(bytes.fromhex(self.receipt_key))

    def sealing_public_key(self) -> X25519PublicKey:
        """The X25519 key to which nodes seal their quotes."""
        return X25519PublicKey.from_public_bytes(bytes.fromhex(self.sealing_key))

    def coordinator_key(self) -> str:
        """SHA-256 of the receipt key's SPKI in lowercase hex, as receipts name it."""
        return hashlib.sha256(bytes.fromhex(self.receipt_key)).hexdigest()
