"""The enclave's keys of one epoch. They are values made at the edge; nothing here exports or prints them."""

from typing import Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pinaivu_shared.log.keys import Algorithm, VerifierKey
from pinaivu_shared.manifest import KeyManifest

VAULT_SECRET_BYTES: Final = 32


class EpochKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Fresh at every boot: `receipt`, `sealing`. Derived from the vault secret, hence lasting: the other two."""

    receipt: ec.EllipticCurvePrivateKey
    sealing: X25519PrivateKey
    checkpoint: Ed25519PrivateKey
    settlement: Ed25519PrivateKey

    def __repr__(self) -> str:
        """Never the keys."""
        return "EpochKeys(…)"

    def receipt_spki(self) -> bytes:
        """SubjectPublicKeyInfo of the receipt key in DER: `public_key` of the attestation document."""
        return self.receipt.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def log_key(self, origin: str) -> VerifierKey:
        """The verifier key under which this log's checkpoints are known."""
        return VerifierKey(origin, Algorithm.ED25519, self.checkpoint.public_key().public_bytes_raw())

    def manifest(self, *, origin: str, epoch: int, configuration: str) -> KeyManifest:
        """The key manifest of an epoch; `configuration` is the digest of the configuration's bytes."""
        return KeyManifest(
            version=1,
            origin=origin,
            epoch=epoch,
            configuration=configuration,
            receipt_key=self.receipt_spki().hex(),
            sealing_key=self.sealing.public_key().public_bytes_raw().hex(),
            checkpoint_key=self.checkpoint.public_key().public_bytes_raw().hex(),
            settlement_key=self.settlement.public_key().public_bytes_raw().hex(),
        )


def derive_signing_key(vault_secret: bytes, purpose: str) -> Ed25519PrivateKey:
    """An Ed25519 key that outlives the epoch: HKDF-SHA-256 of the vault secret (DESIGN section 5)."""
    assert len(vault_secret) == VAULT_SECRET_BYTES
    seed = HKDF(hashes.SHA256(), length=32, salt=None, info=b"pinaivu/" + purpose.encode() + b"/v1").derive(
        vault_secret
    )
    return Ed25519PrivateKey.from_private_bytes(seed)
