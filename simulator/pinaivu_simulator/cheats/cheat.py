"""What all cheats share: an honest agent's messages pass through one before they leave, and what comes in passes too.

A cheat without changes is an honest node, so each says only what it does otherwise. One object lives through all
sessions of its node; what it learned in one it can use in another.
"""

import random
from collections.abc import Callable, Mapping
from typing import ClassVar

import msgspec

from pinaivu_node.admission import EpochVerifier, Market, join
from pinaivu_node.keys import Identity
from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.signed import Signed, sign_as_node
from pinaivu_shared.terms import Award, Proof
from pinaivu_shared.wire.node import Accept, Cancel, Decline, Delta, FromGateway, FromNode, Hello, Offer, Prove, Welcome
from pinaivu_simulator.cheats.wire import Wire

Tell = Callable[[str, Mapping[str, object]], None]


class Means(msgspec.Struct, frozen=True):
    """What a cheat has to work with. `chance` is its own stream of the seed, `tell` prints what it did.

    `victim` is the raw public key of another node.
    """

    identity: Identity
    verify: EpochVerifier
    chance: random.Random
    now_ms: Callable[[], int]
    victim: bytes
    tell: Tell


class Cheat:
    """Honest as it stands; `send` is what a cheat replaces, `hear` what it learns from."""

    sentence: ClassVar[str] = "is an honest node that tells what it was awarded and what it signed"

    def __init__(self, means: Means) -> None:
        self.means = means
        self.market: Market | None = None
        self._nonce = b""
        self._offers: dict[str, Offer] = {}
        self.cancelled: set[str] = set()

    async def pass_on(self, message: FromNode, wire: Wire) -> None:
        """Take a message of the honest agent."""
        if isinstance(message, Hello):
            self._nonce = message.nonce
        await self.send(message, wire)

    async def send(self, message: FromNode, wire: Wire) -> None:
        """Say this to the gateway, or something else, or nothing."""
        if isinstance(message, Accept):
            self.tell("accepted", message.request_id, acceptance=_shown(message.acceptance))
        if isinstance(message, Prove):
            self.tell("proved", message.request_id, proof=_shown(message.proof))
        await wire.send(message)

    def hear(self, message: FromGateway) -> None:
        """Remember what the gateway said."""
        match message:
            case Welcome():
                means = self.means
                self.market = join(
                    message, means.verify, identity=means.identity, nonce=self._nonce, now_ms=means.now_ms()
                )
            case Offer():
                award = decode(message.award.payload, Award, check="award")
                self._offers[award.request_id] = message
                self.tell("awarded", award.request_id, award=_shown(message.award))
            case Cancel():
                self.cancelled.add(message.request_id)
            case _:
                pass

    def award(self, request_id: str) -> Award:
        """The award of a job that was offered."""
        return decode(self._offers[request_id].award.payload, Award, check="award")

    def salt(self, request_id: str) -> bytes:
        """The salt of its commitments."""
        return self._offers[request_id].salt

    def changed_proof(self, honest: Prove, **changes: object) -> Prove:
        """The agent's proof with other fields, signed anew by the node's own key."""
        proof = decode(honest.proof.payload, Proof, check="proof")
        payload = encode(msgspec.structs.replace(proof, **changes))
        return Prove(honest.request_id, sign_as_node("proof", payload, self.means.identity.key))

    def tell(self, event: str, request_id: str = "", **details: object) -> None:
        """Print that this happened."""
        self.means.tell(event, {"request_id": request_id, **details} if request_id else details)


def job_of(message: FromNode) -> str:
    """The request id of a message about a job, empty for any other."""
    return message.request_id if isinstance(message, Accept | Decline | Delta | Prove) else ""


def _shown(signed: Signed) -> dict[str, str]:
    return {"payload": signed.payload.decode(), "signature": signed.signature.hex()}
