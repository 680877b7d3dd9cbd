"""Apply a fixed list of commands to a coordinator with fixed keys and print every effect in hex.

Run by test_purity.py in two processes. Keys are derived, not drawn, so that nothing but the core could differ.
"""

import hashlib
import random

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pinaivu_enclave.core.commands import IssueChallenge, Tick
from pinaivu_enclave.core.coordinator import Coordinator
from pinaivu_enclave.core.journal import Journal
from pinaivu_enclave.core.keys import EpochKeys, derive_signing_key
from pinaivu_enclave.core.market_state import MarketState
from pinaivu_enclave.core.quote_book import StandingQuote
from pinaivu_shared.canonical import encode
from pinaivu_shared.configuration import parse_configuration
from pinaivu_shared.ids import digest_of, make_request_id, node_id_of
from pinaivu_shared.leaves import ConfigurationLeaf
from pinaivu_shared.log.tree import CompactRange
from pinaivu_shared.signed import Signed, sign_as_node, sign_ed25519
from pinaivu_shared.terms import Acceptance, Deposit, FleetGrant, Quote, Registration
from pinaivu_shared.wire import link, link_boot
from pinaivu_simulator.market import market_configuration

NOW_MS = 1_795_000_000_000
SECRET = hashlib.sha256(b"replay").digest()
OPERATOR_KEY = Ed25519PrivateKey.from_private_bytes(SECRET)
ACCOUNT = "acct_" + "a" * 32


def keys() -> EpochKeys:
    return EpochKeys(
        receipt=ec.derive_private_key(int.from_bytes(SECRET[:31]), ec.SECP256R1()),
        sealing=X25519PrivateKey.from_private_bytes(SECRET),
        checkpoint=derive_signing_key(SECRET, "checkpoint"),
        settlement=derive_signing_key(SECRET, "settlement"),
    )


def coordinator() -> Coordinator:
    configuration = parse_configuration(
        market_configuration(
            "replay.test/log", ["model-a", "model-b"], operator_key=bytes(OPERATOR_KEY.public_key().public_bytes_raw())
        )
    )
    state, made = MarketState(), keys()
    state.fold(ConfigurationLeaf(index=0, configuration=configuration, coordinator_signature=""))
    return Coordinator(
        configuration=configuration,
        keys=made,
        attestation=digest_of(b"document"),
        state=state,
        journal=Journal(configuration.origin, made.checkpoint, CompactRange()),
        instance="",
    )


class Replay:
    """The commands, each printed with what it gave."""

    def __init__(self) -> None:
        self.core, self.chance = coordinator(), random.Random(11)

    def apply(self, command: object) -> object:
        effects = self.core.apply(command, NOW_MS)  # type: ignore[arg-type]  # the commands below
        for effect in effects:
            print(type(effect).__name__, msgspec.msgpack.encode(effect).hex())
        return effects[-1] if effects else None

    def add_node(self, number: int) -> tuple[Ed25519PrivateKey, str]:
        key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"node {number}".encode()).digest())
        public_key = key.public_key().public_bytes_raw()
        issued = self.apply(IssueChallenge(public_key, self.chance.randbytes(48)))
        assert isinstance(issued, link.ChallengeIssued)
        answer = Registration(
            session=issued.session,
            challenge=msgspec.json.decode(issued.challenge.payload)["challenge"],
            public_key=public_key.hex(),
            **self._grant(f"operator-{number % 3}", public_key),
        )
        self.apply(link.RegisterNode(issued.session, sign_as_node("registration", encode(answer), key)))
        self._quote(key, issued.session, number)
        return key, issued.session

    def _grant(self, operator: str, node_key: bytes) -> dict[str, str]:
        granted = encode(FleetGrant(operator=operator, node_key=node_key.hex()))
        return {
            "operator": operator,
            "fleet_key": OPERATOR_KEY.public_key().public_bytes_raw().hex(),
            "fleet_signature": sign_ed25519("fleet-grant", granted, OPERATOR_KEY).hex(),
        }

    def _quote(self, key: Ed25519PrivateKey, session: str, number: int) -> None:
        quote = Quote(
            session=session,
            sequence=1,
            node_id=node_id_of(key.public_key().public_bytes_raw()),
            model="model-a" if number % 2 else "model-b",
            input_price=20_000 + number,
            output_price=60_000 + 7 * number,
            slots=2,
            context_length=4096,
            capabilities=("chat",),
            expires_ms=NOW_MS + 60_000,
        )
        # Sealing takes fresh randomness, so the quote is posted as if it had been opened already.
        self.core._book.post(StandingQuote(quote, digest_of(encode(quote)), f"operator-{number % 3}"), NOW_MS)


def main() -> None:
    replay = Replay()
    replay.apply(link_boot.Introduce("0" * 32, link.LINK_PROTOCOL))
    paid_in = encode(Deposit(origin="replay.test/log", reference="1", account=ACCOUNT, amount=10**6, fund="deposits"))
    replay.apply(link.RecordOrder(Signed(paid_in, sign_ed25519("order", paid_in, OPERATOR_KEY))))
    nodes = dict([replay.add_node(number)[::-1] for number in range(12)])
    for number in range(24):
        asked = link.OpenJob(
            request_id=make_request_id(NOW_MS, replay.chance.randbytes(10)),
            account=ACCOUNT,
            model="model-a" if number % 2 else "model-b",
            request_commitment=digest_of(b"request"),
            forwarded_commitment=digest_of(b"forwarded"),
            request_bytes=100 + number,
            max_tokens=50,
            needs=("chat",),
            may_be_empty=False,
        )
        answer = replay.apply(asked)
        if not isinstance(answer, link.Awarded):
            continue
        acceptance = Acceptance(
            request_id=answer.request_id,
            node_id=answer.node_id,
            session=answer.session,
            award=digest_of(answer.award.payload),
        )
        signed = sign_as_node("acceptance", encode(acceptance), nodes[answer.session])
        replay.apply(link.AcceptAward(answer.request_id, signed))
        if number % 3 == 0:
            replay.apply(link.ReportFailure(answer.request_id, 1, "busy"))
        elif number % 3 == 1:
            nothing = link.Delivery(0, "")
            replay.apply(link.SettleJob(answer.request_id, "failed", "node_disconnected", nothing, None))
    replay.apply(link.AcknowledgeLeaves(12))
    replay.apply(Tick())
    replay.apply(link_boot.Introduce("1" * 32, link.LINK_PROTOCOL))


if __name__ == "__main__":
    main()
