"""Joining the market: judging the enclave behind the gateway, and registering with it.

Nothing that the gateway says is believed. The attestation must be live over a nonce of ours and bind the manifest and
configuration; everything after it is signed by the receipt key of that manifest.
"""

from typing import Final, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from pinaivu_node.keys import Identity, Operator
from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.epoch import VerifiedEpoch
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.key_file import public_bytes
from pinaivu_shared.signed import Signed, sign_as_node, sign_ed25519, verify_enclave
from pinaivu_shared.terms import Challenge, FleetGrant, Registered, Registration
from pinaivu_shared.wire.node import Welcome

NONCE_BYTES: Final = 32


class EpochVerifier(Protocol):
    """`pinaivu_shared.epoch.verify_epoch_live` with a trust file already given."""

    def __call__(
        self, document: bytes, manifest: bytes, configuration: bytes, *, nonce: bytes, now_ms: int
    ) -> VerifiedEpoch:
        """Judge a document that must be fresh; VerificationError otherwise."""
        ...


class Market(msgspec.Struct, frozen=True):
    """An enclave that was judged, and the session with it. Made by `join` only."""

    session: str
    challenge: str
    receipt_key: ec.EllipticCurvePublicKey
    sealing_key: X25519PublicKey
    configuration: Configuration


def join(welcome: Welcome, verify: EpochVerifier, *, identity: Identity, nonce: bytes, now_ms: int) -> Market:
    """The market that this welcome opens; VerificationError says what does not hold."""
    epoch = verify(welcome.attestation, welcome.manifest, welcome.configuration, nonce=nonce, now_ms=now_ms)
    receipt_key = epoch.manifest.receipt_public_key()
    payload = verify_enclave("challenge", welcome.challenge, receipt_key)
    challenge = decode(payload, Challenge, check="challenge")
    if challenge.node_id != identity.node_id:
        raise VerificationError("challenge", f"is for {challenge.node_id}")
    if challenge.expires_ms <= now_ms:
        raise VerificationError("challenge", "has expired")
    sealing_key = epoch.manifest.sealing_public_key()
    return Market(challenge.session, challenge.challenge, receipt_key, sealing_key, epoch.configuration)


def registration(market: Market, identity: Identity, operator: Operator) -> Signed:
    """The answer to the market's challenge, with the operator's grant for this node."""
    node_key = identity.public_key.hex()
    grant = encode(FleetGrant(operator=operator.name, node_key=node_key))
    answer = Registration(
        session=market.session,
        challenge=market.challenge,
        public_key=node_key,
        operator=operator.name,
        fleet_key=public_bytes(operator.key).hex(),
        fleet_signature=sign_ed25519("fleet-grant", grant, operator.key).hex(),
    )
    return sign_as_node("registration", encode(answer), identity.key)


def check_registered(registered: Signed, market: Market, identity: Identity) -> int:
    """The enclave's time in milliseconds when it registered this node in this session; VerificationError otherwise."""
    payload = verify_enclave("registered", registered, market.receipt_key)
    found = decode(payload, Registered, check="registered")
    if (found.session, found.node_id) != (market.session, identity.node_id):
        raise VerificationError("registered", f"is for {found.node_id} in {found.session}")
    return found.registered_ms
