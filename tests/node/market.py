"""A gateway with a fake enclave behind it, over a real WebSocket: the other side of every test of the agent."""

import hashlib
from typing import Any, TypeVar, cast

import msgspec
import trio_websocket
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pinaivu_node.keys import Operator, identity_of
from pinaivu_node.tariff import Tariff
from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.commitments import canonical_bytes, forwarded_commitment
from pinaivu_shared.configuration import (
    Configuration,
    JobLimits,
    MeteringLimits,
    ModelTerms,
    NodeTerms,
    parse_configuration,
)
from pinaivu_shared.epoch import VerifiedEpoch
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of, make_request_id
from pinaivu_shared.manifest import KeyManifest
from pinaivu_shared.sealing import open_sealed
from pinaivu_shared.signed import Signed, load_node_key, sign_as_enclave, verify_node
from pinaivu_shared.terms import (
    Acceptance,
    Award,
    Challenge,
    Proof,
    Quote,
    QuoteAcknowledgement,
    Registered,
    Registration,
)
from pinaivu_shared.wire.node import (
    Accept,
    Delta,
    FromNode,
    Hello,
    NodeMessage,
    Offer,
    PostQuote,
    Prove,
    QuoteAcknowledged,
    Register,
    RegistrationAccepted,
    RequestReport,
    Welcome,
    decode_from_node,
)
from pinaivu_shared.wire.node import (
    encode as encode_message,
)
from pinaivu_simulator.market import NO_KMS

NOW_MS = 1_795_000_000_000
MODEL = "llama3.2:1b"
MODELS = (MODEL, "gemma3:1b", "qwen3:4b")
SALT = bytes(range(32))
BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
ALICE = Operator("alice", Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"alice").digest()))
NODE = identity_of(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"node").digest()))
TARIFF = Tariff(input_price=100, output_price=200, slots=2)
_Message = TypeVar("_Message", bound=FromNode)

CONFIGURATION = Configuration(
    version=1,
    platform="simulator",
    origin="pinaivu.test/log",
    kms=NO_KMS,
    models=tuple(
        ModelTerms(
            model=name,
            input_reserve_price=1000,
            output_reserve_price=2000,
            expected_completion_tokens=100,
            context_length_max=8192,
        )
        for name in MODELS
    ),
    fee_bps=0,
    operator_key="44" * 32,
    nodes=NodeTerms(prior_bps=5000, probation_slots=4, suspension_ms=600_000, statement_period_ms=60_000),
    jobs=JobLimits(attempts=3, first_token_ms=10_000, duration_ms=60_000),
    metering=MeteringLimits(completion_allowance=8, template_allowance=64, recount_tolerance_bps=500),
    quote_lifetime_ms=60_000,
    max_nodes=10,
    max_open_jobs=10,
    witnesses=(),
    quorum=0,
)


class Enclave:
    """Signs what a real one would, and whatever a test asks for beside."""

    def __init__(self) -> None:
        self.receipt = ec.derive_private_key(7, ec.SECP256R1())
        self.sealing = X25519PrivateKey.from_private_bytes(hashlib.sha256(b"sealing").digest())
        self.configuration = encode(CONFIGURATION)
        spki = self.receipt.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.manifest = encode(
            KeyManifest(
                version=1,
                origin=CONFIGURATION.origin,
                epoch=1,
                configuration=digest_of(self.configuration),
                receipt_key=spki.hex(),
                sealing_key=self.sealing.public_key().public_bytes_raw().hex(),
                checkpoint_key="11" * 32,
                settlement_key="22" * 32,
            )
        )
        self._requests = 0

    def challenge(self, session: str, **changes: Any) -> Challenge:
        challenge = Challenge(session=session, node_id=NODE.node_id, challenge="33" * 32, expires_ms=NOW_MS + 60_000)
        return msgspec.structs.replace(challenge, **changes)

    def award(self, standing: Quote, digest: str, body: dict[str, Any], **changes: Any) -> Award:
        self._requests += 1
        award = Award(
            request_id=make_request_id(NOW_MS, self._requests.to_bytes(10)),
            attempt=1,
            node_id=standing.node_id,
            session=standing.session,
            model=standing.model,
            request_commitment=digest_of(b"whole request"),
            forwarded_commitment=forwarded_commitment(body, SALT),
            request_bytes=len(canonical_bytes(body)),
            quote=digest,
            transcript=digest_of(b"transcript"),
            input_price=standing.input_price,
            output_price=standing.output_price,
            max_prompt_tokens=100,
            max_completion_tokens=50,
            payment_cap=1000,
            awarded_ms=NOW_MS,
            first_token_by_ms=NOW_MS + 10_000,
            deadline_ms=NOW_MS + 60_000,
        )
        return msgspec.structs.replace(award, **changes)


def judge(document: bytes, manifest: bytes, configuration: bytes, *, nonce: bytes, now_ms: int) -> VerifiedEpoch:
    """Stands for `verify_epoch_live`: a document is good when it repeats the nonce."""
    if document != b"attested" + nonce:
        raise VerificationError("nonce", "is not the one that was asked with")
    keys = decode(manifest, KeyManifest, check="manifest")
    return VerifiedEpoch(cast("Any", None), keys, parse_configuration(configuration))


class Gateway:
    """One connection of the node, seen from the gateway."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection, enclave: Enclave, session: str) -> None:
        self.websocket, self.enclave, self.session = websocket, enclave, session
        self.hello = Hello(0, bytes(32), bytes(32), "")
        self.asked = 0

    async def send(self, message: NodeMessage) -> None:
        await self.websocket.send_message(encode_message(message))

    async def receive(self, kind: type[_Message]) -> _Message:
        message = await self.any()
        assert isinstance(message, kind), message
        return message

    async def any(self) -> FromNode:
        """The next message that is no question for a report; those are counted."""
        while True:
            message = await self.any_at_all()
            if not isinstance(message, RequestReport):
                return message
            self.asked += 1

    async def any_at_all(self) -> FromNode:
        return decode_from_node(cast("bytes", await self.websocket.get_message()))

    async def welcome(self, **changes: Any) -> None:
        """Answer Hello with a Welcome of which some parts may be changed."""
        self.hello = await self.receive(Hello)
        parts = {
            "attestation": b"attested" + self.hello.nonce,
            "manifest": self.enclave.manifest,
            "configuration": self.enclave.configuration,
            "challenge": sign_as_enclave(
                "challenge", encode(self.enclave.challenge(self.session)), self.enclave.receipt
            ),
        }
        await self.send(Welcome(**{**parts, **changes}))

    async def admit(self) -> Registration:
        """The whole handshake."""
        await self.welcome()
        signed = (await self.receive(Register)).registration
        payload = verify_node("registration", signed, load_node_key(self.hello.public_key))
        registered = Registered(session=self.session, node_id=NODE.node_id, registered_ms=NOW_MS)
        await self.send(RegistrationAccepted(sign_as_enclave("registered", encode(registered), self.enclave.receipt)))
        return decode(payload, Registration, check="registration")

    async def quote(self, **changes: Any) -> tuple[Quote, str]:
        """Take the next quote and acknowledge it; the quote and its digest."""
        sealed = (await self.receive(PostQuote)).sealed
        signed = msgspec.msgpack.decode(open_sealed(sealed, self.enclave.sealing), type=Signed)
        quote = decode(verify_node("quote", signed, load_node_key(NODE.public_key)), Quote, check="quote")
        digest = digest_of(signed.payload)
        acknowledgement = QuoteAcknowledgement(
            session=quote.session,
            sequence=quote.sequence,
            node_id=quote.node_id,
            quote=digest,
            acknowledged_ms=NOW_MS,
            expires_ms=quote.expires_ms,
        )
        acknowledgement = msgspec.structs.replace(acknowledgement, **changes)
        signed = sign_as_enclave("quote-acknowledgement", encode(acknowledgement), self.enclave.receipt)
        await self.send(QuoteAcknowledged(signed))
        return quote, digest

    async def open(self) -> "Counter":
        """Handshake and first quote."""
        await self.admit()
        return Counter(self, *await self.quote())


class Counter:
    """A gateway with a standing quote, at which jobs are given out."""

    def __init__(self, gateway: Gateway, quote: Quote, digest: str) -> None:
        self.gateway, self.standing, self.digest = gateway, quote, digest

    def award(self, body: dict[str, Any] = BODY, **changes: Any) -> Award:
        return self.gateway.enclave.award(self.standing, self.digest, body, **changes)

    async def offer(self, award: Award, body: dict[str, Any] = BODY) -> None:
        await self.gateway.send(self.signed(award, body))

    def signed(self, award: Award, body: dict[str, Any] = BODY) -> Offer:
        key = self.gateway.enclave.receipt
        return Offer(sign_as_enclave("award", encode(award), key), msgspec.json.encode(body), SALT)

    async def accepted(self, award: Award) -> None:
        """Expect the node's acceptance of exactly this award."""
        message = await self.gateway.receive(Accept)
        payload = verify_node("acceptance", message.acceptance, load_node_key(NODE.public_key))
        assert decode(payload, Acceptance, check="acceptance") == Acceptance(
            request_id=award.request_id,
            node_id=NODE.node_id,
            session=self.gateway.session,
            award=digest_of(encode(award)),
        )

    async def outcome(self) -> tuple[list[Delta], Proof]:
        """All deltas up to the proof, and the proof."""
        deltas: list[Delta] = []
        while True:
            message = await self.gateway.any()
            if isinstance(message, Prove):
                payload = verify_node("proof", message.proof, load_node_key(NODE.public_key))
                return deltas, decode(payload, Proof, check="proof")
            assert isinstance(message, Delta), message
            deltas.append(message)
