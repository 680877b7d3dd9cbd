"""Building blocks for tests of the coordinator: a booted enclave, nodes with keys, jobs with commitments."""

import datetime as dt
import hashlib
import random
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from pinaivu_enclave.boot import Boot, EnclavePlatform
from pinaivu_enclave.core.commands import Effect, IssueChallenge
from pinaivu_enclave.core.coordinator import Coordinator
from pinaivu_enclave.vault import OpenedVault, Vault
from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.configuration import Configuration, parse_configuration
from pinaivu_shared.ids import digest_of, make_request_id, node_id_of
from pinaivu_shared.leaves import parse_leaf
from pinaivu_shared.manifest import KeyManifest
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.sealing import seal
from pinaivu_shared.signed import Signed, sign_as_node, sign_ed25519
from pinaivu_shared.terms import (
    Acceptance,
    Award,
    Challenge,
    Deposit,
    FleetGrant,
    Order,
    Payout,
    Proof,
    Quote,
    Registration,
)
from pinaivu_shared.wire import link, link_boot
from pinaivu_simulator.market import market_configuration
from pinaivu_simulator.nsm import SimulatedNsm
from pinaivu_simulator.pki import SimulatedPki

ORIGIN = "pinaivu.test/log"
MODEL = "pinaivu-tiny"
OTHER_MODEL = "llama3.2:1b"
START_MS = 1_795_000_000_000
INSTANCE = "0" * 32
ACCOUNT = "acct_" + "a" * 32
CREDIT = 1_000_000_000
OPERATOR_KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"operator").digest())


class FixedVault:
    """A vault whose secret is a constant."""

    async def open(self, configuration: Configuration, sealed: bytes) -> OpenedVault:
        return OpenedVault(bytes(range(32)), b"sealed")


def at_once(step: Coroutine[Any, Any, bytes]) -> bytes:
    """Run what waits for nothing, with or without an event loop around it."""
    try:
        step.send(None)
    except StopIteration as end:
        result: bytes = end.value
        return result
    raise AssertionError("it waited")


class Market:
    """An enclave that serves, with the leaves it made and a clock that the test moves."""

    def __init__(
        self,
        *,
        stored: tuple[bytes, ...] = (),
        checkpoint: str = "",
        credit: int = CREDIT,
        now_ms: int = START_MS,
        **changes: Any,
    ) -> None:
        self.now_ms = now_ms
        self.random = random.Random(7 + len(stored))
        raw = market_configuration(
            ORIGIN, [MODEL, OTHER_MODEL], operator_key=OPERATOR_KEY.public_key().public_bytes_raw()
        )
        self.configuration = msgspec.structs.replace(parse_configuration(raw), **changes)
        self.leaves = list(stored)
        self.checkpoint = checkpoint
        self.boot = Boot(make_platform(lambda: self.now_ms))
        self.boot.configure(encode(self.configuration))
        at_once(self.boot.open_vault(b""))
        self.boot.resume(stored)
        self.epoch, effects = self.boot.finish(checkpoint, INSTANCE)
        self.manifest = decode(self.epoch.manifest, KeyManifest, check="manifest")
        self._keep(effects)
        self.apply(link_boot.Introduce(INSTANCE, link.LINK_PROTOCOL))
        if not stored and credit:
            self.deposit(credit)
        self.acknowledge()

    @property
    def coordinator(self) -> Coordinator:
        return self.epoch.coordinator

    def apply(self, command: Any) -> Any:
        """Apply a command; the result it was answered with."""
        effects = self.coordinator.apply(command, self.now_ms)
        self._keep(effects)
        return effects[-1] if effects else None

    def _keep(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, link.LeafAppended):
                assert effect.index <= len(self.leaves)
                self.leaves[effect.index :] = [effect.leaf]
            if isinstance(effect, link.CheckpointSigned):
                self.checkpoint = effect.checkpoint

    def acknowledge(self) -> None:
        """Say that all leaves are durable."""
        self.apply(link.AcknowledgeLeaves(len(self.leaves)))

    def deposit(self, amount: int, account: str = ACCOUNT, **changes: Any) -> Any:
        """Pay credit in, by a signed order."""
        reference = f"deposit-{len(self.leaves)}"
        order = Deposit(origin=ORIGIN, reference=reference, account=account, amount=amount, fund="deposits")
        return self.apply(signed_order(msgspec.structs.replace(order, **changes)))

    def pay_out(self, node_id: str, amount: int, **changes: Any) -> Any:
        """Say that a node was paid, by a signed order."""
        order = Payout(origin=ORIGIN, reference=f"payout-{len(self.leaves)}", node_id=node_id, amount=amount)
        return self.apply(signed_order(msgspec.structs.replace(order, **changes)))

    def balances(self) -> dict[str, int]:
        return self.coordinator._state.ledger.balances()

    def receipts(self) -> list[Receipt]:
        parsed = [parse_leaf(leaf) for leaf in self.leaves]
        return [leaf for leaf in parsed if isinstance(leaf, Receipt)]

    def request_id(self) -> str:
        return make_request_id(self.now_ms, self.random.randbytes(10))

    def open_job(self, **changes: Any) -> Any:
        """Open a job of 400 request bytes for at most 100 tokens; Awarded or JobRefused."""
        request = link.OpenJob(
            request_id=self.request_id(),
            account=ACCOUNT,
            model=MODEL,
            request_commitment=digest_of(b"request"),
            forwarded_commitment=digest_of(b"forwarded"),
            request_bytes=400,
            max_tokens=100,
            needs=("chat",),
            may_be_empty=False,
        )
        return self.apply(msgspec.structs.replace(request, **changes))

    def settle(self, awarded: link.Awarded, node: "Node", **changes: Any) -> Receipt:
        """Accept, prove and settle a job as `completed`; the receipt."""
        self.apply(node.accept(awarded))
        answer = self.apply(msgspec.structs.replace(node.completed(awarded), **changes))
        assert isinstance(answer, link.JobSettled)
        return decode(answer.receipt, Receipt, check="receipt")


def signed_order(order: Order, key: Ed25519PrivateKey = OPERATOR_KEY) -> link.RecordOrder:
    """The command that hands in an order of the operator."""
    payload = encode(order)
    return link.RecordOrder(Signed(payload, sign_ed25519("order", payload, key)))


def grant(operator: str, node_key: bytes) -> dict[str, str]:
    """What a registration says of the node's operator, whose key follows from the name here."""
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(operator.encode()).digest())
    granted = encode(FleetGrant(operator=operator, node_key=node_key.hex()))
    return {
        "operator": operator,
        "fleet_key": key.public_key().public_bytes_raw().hex(),
        "fleet_signature": sign_ed25519("fleet-grant", granted, key).hex(),
    }


class Node:
    """A node with a key of its own."""

    def __init__(self, market: Market, seed: str, *, operator: str | None = None) -> None:
        self.market, self.operator = market, operator or f"operator-{seed}"
        self.key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())
        self.public_key = self.key.public_key().public_bytes_raw()
        self.node_id = node_id_of(self.public_key)
        self.session = ""
        self.sequence = 0

    def register(self) -> "Node":
        issued = self.market.apply(IssueChallenge(self.public_key, self.market.random.randbytes(48)))
        self.session = issued.session
        self.market.apply(link.RegisterNode(self.session, self.registration(issued)))
        return self

    def registration(self, issued: link.ChallengeIssued, **changes: Any) -> Any:
        challenge = decode(issued.challenge.payload, Challenge, check="challenge")
        answer = Registration(
            session=issued.session,
            challenge=challenge.challenge,
            public_key=self.public_key.hex(),
            **grant(self.operator, self.public_key),
        )
        return sign_as_node("registration", encode(msgspec.structs.replace(answer, **changes)), self.key)

    def quote(self, input_price: int = 20_000, output_price: int = 60_000, **changes: Any) -> "Node":
        """Post a quote for MODEL with 4 slots and a context of 2048."""
        self.market.apply(self.sealed_quote(input_price, output_price, **changes))
        return self

    def sealed_quote(self, input_price: int = 20_000, output_price: int = 60_000, **changes: Any) -> Any:
        self.sequence += 1
        quote = Quote(
            session=self.session,
            sequence=self.sequence,
            node_id=self.node_id,
            model=MODEL,
            input_price=input_price,
            output_price=output_price,
            slots=4,
            context_length=2048,
            capabilities=("chat",),
            expires_ms=self.market.now_ms + 60_000,
        )
        signed = sign_as_node("quote", encode(msgspec.structs.replace(quote, **changes)), self.key)
        sealing_key = X25519PublicKey.from_public_bytes(bytes.fromhex(self.market.manifest.sealing_key))
        return link.PostSealedQuote(self.session, seal(msgspec.msgpack.encode(signed), sealing_key))

    def accept(self, awarded: link.Awarded, **changes: Any) -> link.AcceptAward:
        acceptance = Acceptance(
            request_id=awarded.request_id,
            node_id=self.node_id,
            session=self.session,
            award=digest_of(awarded.award.payload),
        )
        signed = sign_as_node("acceptance", encode(msgspec.structs.replace(acceptance, **changes)), self.key)
        return link.AcceptAward(awarded.request_id, signed)

    def proof(self, awarded: link.Awarded, **changes: Any) -> Any:
        award = decode(awarded.award.payload, Award, check="award")
        proof = Proof(
            request_id=awarded.request_id,
            node_id=self.node_id,
            session=self.session,
            sequence=1,
            public_key=self.public_key.hex(),
            award=digest_of(awarded.award.payload),
            outcome="completed",
            reason="",
            prompt_tokens=38,
            completion_tokens=74,
            forwarded_commitment=award.forwarded_commitment,
            response_commitment=digest_of(b"answer"),
            first_token_ms=12,
            duration_ms=345,
        )
        return sign_as_node("proof", encode(msgspec.structs.replace(proof, **changes)), self.key)

    def completed(self, awarded: link.Awarded, **changes: Any) -> link.SettleJob:
        """The host's settlement of a job that went well: 300 bytes delivered."""
        delivery = link.Delivery(300, digest_of(b"answer"))
        settle = link.SettleJob(awarded.request_id, "completed", "", delivery, self.proof(awarded))
        return msgspec.structs.replace(settle, **changes)


_PKI = SimulatedPki.create(now=dt.datetime.fromtimestamp(START_MS / 1000, dt.UTC), entropy=random.Random(1).randbytes)


def make_platform(now_ms: Callable[[], int], *, vault: Vault | None = None) -> EnclavePlatform:
    """A simulated platform under one root for the whole test run."""
    nsm = SimulatedNsm(_PKI, now_ms=now_ms, entropy=random.Random(2).randbytes)
    return EnclavePlatform(names=frozenset({"simulator"}), nsm=nsm, root=nsm.trust_root, vault=vault or FixedVault())
