"""Cheats about proofs: old ones, broken ones, changed ones, and more than one."""

from itertools import cycle
from typing import ClassVar, Final

from pinaivu_shared.canonical import decode
from pinaivu_shared.ids import make_request_id
from pinaivu_shared.signed import Signed
from pinaivu_shared.terms import Proof
from pinaivu_shared.wire.node import FromNode, Prove
from pinaivu_simulator.cheats.cheat import Cheat, Means
from pinaivu_simulator.cheats.wire import Wire

_DIGEST: Final = "sha256:" + "0" * 64


class ReplayedProof(Cheat):
    """Proves its first job honestly, and every later one with the first one's proof."""

    sentence: ClassVar[str] = "proves every job after its first with the proof of the first"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._first: Signed | None = None

    async def send(self, message: FromNode, wire: Wire) -> None:
        """The old proof in place of the new one."""
        if isinstance(message, Prove):
            if self._first is not None:
                self.tell("cheated", message.request_id)
            self._first = self._first or message.proof
            message = Prove(message.request_id, self._first)
        await wire.send(message)


class BrokenSignature(Cheat):
    """One bit is not as it was signed."""

    sentence: ClassVar[str] = "flips one bit of each proof or of its signature"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """A proof with one bit flipped somewhere."""
        if isinstance(message, Prove):
            self.tell("cheated", message.request_id)
            message = Prove(message.request_id, self._flipped(message.proof))
        await wire.send(message)

    def _flipped(self, signed: Signed) -> Signed:
        joined = bytearray(signed.payload + signed.signature)
        joined[self.means.chance.randrange(len(joined))] ^= 1 << self.means.chance.randrange(8)
        return Signed(bytes(joined[: len(signed.payload)]), bytes(joined[len(signed.payload) :]))


class ChangedProof(Cheat):
    """Each job's proof names something else than was awarded, well signed by the node's own key."""

    sentence: ClassVar[str] = "signs each proof for another award, session, node, key, request or answer, in turn"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        changes: list[dict[str, str]] = [
            {"award": _DIGEST},
            {"session": "ses_" + "0" * 32},
            {"node_id": "node_" + "0" * 32},
            {"public_key": "0" * 64},
            {"forwarded_commitment": _DIGEST},
            {"response_commitment": _DIGEST},
            {"request_id": make_request_id(means.now_ms(), means.chance.randbytes(10))},
        ]
        means.chance.shuffle(changes)
        self._changes = cycle(changes)

    async def send(self, message: FromNode, wire: Wire) -> None:
        """The next change on the list."""
        if isinstance(message, Prove):
            change = next(self._changes)
            self.tell("cheated", message.request_id, changed=next(iter(change)))
            message = self.changed_proof(message, **change)
        await wire.send(message)


class TwoProofs(Cheat):
    """Says one thing to be paid and another to be believed."""

    sentence: ClassVar[str] = "sends a second proof of each job that claims one token more than the first"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """The honest proof, and at once another one."""
        await wire.send(message)
        if isinstance(message, Prove):
            honest = decode(message.proof.payload, Proof, check="proof")
            await wire.send(self.changed_proof(message, completion_tokens=honest.completion_tokens + 1))
            self.tell("cheated", message.request_id)
