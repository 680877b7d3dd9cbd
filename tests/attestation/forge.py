"""A forger's bench: documents signed by the simulated platform's own PKI that differ from good ones in one place."""

import datetime as dt
import random
from collections.abc import Iterable, Mapping
from typing import Any, Final

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from pinaivu_shared.attestation.document import AttestationDocument
from pinaivu_shared.attestation.policy import MeasurementPolicy
from pinaivu_shared.attestation.verify import verify_archived
from pinaivu_simulator.cose import ES384_HEADER, encode_payload
from pinaivu_simulator.nsm import SIMULATED_MEASUREMENTS
from pinaivu_simulator.pki import INSTANCE, LEAF, REGIONAL, ZONAL, Authority, SimulatedPki, issue, new_key, subject

P384_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
NOW_MS: Final = 1_795_000_000_123
NOW: Final = dt.datetime.fromtimestamp(NOW_MS // 1000, dt.UTC)
NONCE: Final = b"a fresh nonce of 32 bytes length"
PUBLIC_KEY: Final = b"DER of the receipt key"
MANIFEST_SHA256: Final = bytes(range(32))
ALLOWED: Final = {index: frozenset((value,)) for index, value in SIMULATED_MEASUREMENTS.items()}
POLICY: Final = MeasurementPolicy(ALLOWED)
entropy: Final = random.Random("forge").randbytes
PKI: Final = SimulatedPki.create(now=NOW - dt.timedelta(days=400), entropy=entropy)
ROOT: Final = PKI.trust_root
LEVELS: Final = {"regional": REGIONAL, "zonal": ZONAL, "instance": INSTANCE, "leaf": LEAF}


class Forge:
    """A chain under `pki`, and documents signed by its leaf. `changes` go to `issue`, level by level."""

    def __init__(self, pki: SimulatedPki = PKI, **changes: Mapping[str, Any]) -> None:
        self.root, self.chain = pki.root, [pki.root]
        for level, profile in LEVELS.items():
            self.add(level, **{"profile": profile, **changes.get(level, {})})

    def add(self, level: str, **change: Any) -> Authority:
        """Issue one more certificate below the last."""
        made: dict[str, Any] = {"key": new_key(entropy), "issuer": self.chain[-1], "now": NOW, "serial": 7} | change
        self.chain.append(issue(made.pop("profile"), subject(level), made.pop("key"), **made))
        return self.chain[-1]

    @property
    def leaf(self) -> Authority:
        """The last certificate and its key."""
        return self.chain[-1]

    def fields(self, **changes: object) -> dict[str, object]:
        """The nine fields of a good document, in their order, with changes; a change to `...` leaves one out."""
        pcrs = dict(SIMULATED_MEASUREMENTS) | {index: bytes(48) for index in range(3, 16)}
        fields: dict[str, object] = {
            "module_id": "i-0123456789abcdef0-enc0123456789abcdef",
            "digest": "SHA384",
            "timestamp": NOW_MS,
            "pcrs": pcrs,
            "certificate": self.leaf.der,
            "cabundle": [authority.der for authority in self.chain[:-1]],
            "public_key": PUBLIC_KEY,
            "user_data": MANIFEST_SHA256,
            "nonce": NONCE,
        } | changes
        return {name: value for name, value in fields.items() if value is not ...}

    def document(self, **changes: object) -> bytes:
        """A correctly signed document with changed fields."""
        return self.signed(encode_payload(self.fields(**changes)))

    def signed(self, payload: bytes) -> bytes:
        """A correct COSE_Sign1 around any payload."""
        return cbor2.dumps(self.cose(payload))

    def cose(
        self,
        payload: bytes,
        *,
        protected: bytes = ES384_HEADER,
        context: str = "Signature1",
        external: bytes = b"",
        digest: hashes.HashAlgorithm | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> list[Any]:
        """The four elements of a COSE_Sign1; whatever is unusual about them is signed as it stands."""
        signed = cbor2.dumps([context, protected, external, payload])
        der = (key or self.leaf.key).sign(signed, ec.ECDSA(digest or hashes.SHA384(), deterministic_signing=True))
        return [protected, {}, payload, b"".join(half.to_bytes(48, "big") for half in decode_dss_signature(der))]


def encoded_map(pairs: Iterable[tuple[bytes, bytes]], *, head: bytes = b"\xbf", end: bytes = b"\xff") -> bytes:
    """A CBOR map of encoded pairs, as they are."""
    return head + b"".join(key + value for key, value in pairs) + end


def encoded_pairs(fields: Mapping[Any, Any]) -> list[tuple[bytes, bytes]]:
    return [(cbor2.dumps(key), cbor2.dumps(value)) for key, value in fields.items()]


def judge(raw: bytes) -> AttestationDocument:
    return verify_archived(raw, root=ROOT, policy=POLICY)


GOOD: Final = Forge()
DOCUMENT: Final = GOOD.document()
