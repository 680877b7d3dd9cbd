"""The journal: leaves in order, which of them the host holds durably, and checkpoints over exactly those.

The enclave keeps the right edges of two trees (all leaves, durable leaves) and the bytes in between, so that it can
send again what was not acknowledged (DESIGN section 6).
"""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pinaivu_enclave.core.commands import IllegalCommandError
from pinaivu_shared.leaves import MAX_LEAF_BYTES
from pinaivu_shared.log.checkpoint import sign_checkpoint
from pinaivu_shared.log.merkle import leaf_hash
from pinaivu_shared.log.tree import CompactRange
from pinaivu_shared.wire.link import CheckpointSigned, LeafAppended

MAX_PENDING_LEAVES: Final = 65_536


class Journal:
    """Assigns each leaf its index and signs checkpoints over what the host acknowledged."""

    def __init__(self, origin: str, key: Ed25519PrivateKey, durable: CompactRange) -> None:
        self.origin = origin
        self._key = key
        self._durable = durable
        self._pending: dict[int, bytes] = {}

    @property
    def durable(self) -> int:
        """How many leaves the host acknowledged."""
        return self._durable.size

    @property
    def size(self) -> int:
        """How many leaves there are; the index of the next one."""
        return self._durable.size + len(self._pending)

    @property
    def full(self) -> bool:
        """Whether the host's storage lags so far behind that no new work may be begun."""
        return len(self._pending) >= MAX_PENDING_LEAVES

    def append(self, leaf: bytes) -> LeafAppended:
        """Give the leaf the next index."""
        assert 0 < len(leaf) <= MAX_LEAF_BYTES
        index = self.size
        self._pending[index] = leaf
        return LeafAppended(index, leaf)

    def acknowledge(self, size: int) -> list[CheckpointSigned]:
        """The host holds all leaves below `size`: a checkpoint over them, or nothing when none of them is new."""
        if size > self.size:
            raise IllegalCommandError(f"{size} leaves acknowledged, only {self.size} exist")
        if size <= self._durable.size:
            return []
        for index in range(self._durable.size, size):
            self._durable.append(leaf_hash(self._pending.pop(index)))
        return [CheckpointSigned(size, sign_checkpoint(self.origin, size, self._durable.root(), self._key))]

    def unacknowledged(self) -> list[LeafAppended]:
        """What has to be sent again to a host that lost the connection."""
        return [LeafAppended(index, leaf) for index, leaf in self._pending.items()]
