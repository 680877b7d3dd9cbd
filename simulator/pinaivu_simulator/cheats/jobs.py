"""Cheats about whose job it is: answers that nobody asked this node for, or that it never agreed to give."""

from typing import ClassVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pinaivu_node.keys import identity_of
from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.ids import make_request_id
from pinaivu_shared.signed import Signed, sign_as_node
from pinaivu_shared.terms import Acceptance
from pinaivu_shared.wire.node import Accept, Decline, Delta, FromNode, Prove
from pinaivu_simulator.cheats.cheat import Cheat, Means, job_of
from pinaivu_simulator.cheats.wire import Wire


class NeverOffered(Cheat):
    """Bills a job of its own invention beside each real one, which it serves honestly."""

    sentence: ClassVar[str] = "answers and proves, beside each real job, one that was never offered to anybody"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """After each honest proof the same again, under a request id that nobody has."""
        await wire.send(message)
        if isinstance(message, Prove):
            invented = make_request_id(self.means.now_ms(), self.means.chance.randbytes(10))
            proof = self.changed_proof(message, request_id=invented)
            await wire.send(Delta(invented, "an answer to no question"))
            await wire.send(Delta(invented, finish_reason="stop"))
            await wire.send(Prove(invented, proof.proof))
            self.tell("cheated", invented, beside=message.request_id)


class Unaccepted(Cheat):
    """Wants to be free to deny the terms later."""

    sentence: ClassVar[str] = "streams its answer without having accepted the award"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """All but the acceptance."""
        if isinstance(message, Accept):
            self.tell("cheated", message.request_id)
            return
        await wire.send(message)


class ProofAlone(Cheat):
    """Skips the work."""

    sentence: ClassVar[str] = "sends the proof of an answer, and neither the answer nor an acceptance"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """The proof only."""
        if isinstance(message, Prove) or not job_of(message):
            await wire.send(message)
        if isinstance(message, Prove):
            self.tell("cheated", message.request_id)


class FalseDecline(Cheat):
    """The blame for no answer shall be the caller's, and no other node be asked."""

    sentence: ClassVar[str] = "declines each award as a request that its engine does not support"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """A decline in place of the acceptance."""
        if isinstance(message, Accept):
            self.tell("cheated", message.request_id)
            await wire.send(Decline(message.request_id, "unsupported_request"))
        elif not job_of(message):
            await wire.send(message)


class AwardOfAnother(Cheat):
    """The award names one key; another one wants to be paid for it."""

    sentence: ClassVar[str] = "accepts the award under the key of another node than the one it names"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._other = identity_of(Ed25519PrivateKey.from_private_bytes(means.chance.randbytes(32)))

    async def send(self, message: FromNode, wire: Wire) -> None:
        """The other node's acceptance, and nothing more: the market has to see through the acceptance alone."""
        if isinstance(message, Accept):
            await wire.send(Accept(message.request_id, self._signed_by_other(message)))
            self.tell("cheated", message.request_id)
        elif not job_of(message):
            await wire.send(message)

    def _signed_by_other(self, message: Accept) -> Signed:
        honest = decode(message.acceptance.payload, Acceptance, check="acceptance")
        other = msgspec.structs.replace(honest, node_id=self._other.node_id)
        return sign_as_node("acceptance", encode(other), self._other.key)
