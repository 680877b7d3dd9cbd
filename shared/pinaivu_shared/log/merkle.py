"""Hashes of the Merkle tree and the check of its proofs (RFC 6962 2.1, RFC 9162 2.1, SHA-256).

The tree is never padded: an odd node is promoted, not doubled. Leaves and inner nodes are hashed under
different first bytes, so that no inner node can pass for a leaf.
"""

from collections.abc import Sequence
from hashlib import sha256

from pinaivu_shared.errors import VerificationError

HASH_BYTES = 32
SIZE_MAX = 2**63 - 1  # leaves
INCLUSION_HASHES_MAX = 63  # in a tree of that size; a consistency proof may have one more
EMPTY_ROOT = sha256(b"").digest()

INCLUSION_CHECK = "inclusion proof"
CONSISTENCY_CHECK = "consistency proof"


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of a leaf's exact bytes, 32 bytes (RFC 9162 2.1.1)."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node from its two children's hashes, 32 bytes (RFC 9162 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


def check_inclusion(proof: Sequence[bytes], *, leaf_hash: bytes, index: int, size: int, root: bytes) -> None:
    """Check that the leaf stands at `index` (from 0) of the tree of `size` leaves with this root.

    `proof` runs from the leaf's sibling up to the root's child (RFC 9162 2.1.3.2); its length must be exact.

    Raises:
        VerificationError: "inclusion proof".

    """
    check = INCLUSION_CHECK
    if not 0 <= index < size <= SIZE_MAX:
        raise VerificationError(check, f"index {index} is outside a tree of {size} leaves")
    _check_hashes(check, (leaf_hash, root, *proof))
    fn, sn, computed = index, size - 1, leaf_hash  # fn, sn, as the RFC names them
    for sibling in proof:
        if sn == 0:
            raise VerificationError(check, f"{len(proof)} hashes are too many")
        if fn & 1 or fn == sn:
            computed = node_hash(sibling, computed)
            fn, sn = _climb(fn, sn)
        else:
            computed = node_hash(computed, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise VerificationError(check, f"{len(proof)} hashes are too few")
    if computed != root:
        raise VerificationError(check, "does not lead from the leaf to the root")


def check_consistency(proof: Sequence[bytes], *, size1: int, root1: bytes, size2: int, root2: bytes) -> None:
    """Check that the tree of `size2` leaves begins with all the leaves of the tree of `size1`.

    Equal sizes need equal roots and an empty proof, and so does `size1` 0, which proves nothing; an empty tree
    has one legal root. Otherwise RFC 9162 2.1.4.2. Equal sizes with two roots are equivocation: keep both.

    Raises:
        VerificationError: "consistency proof".

    """
    check = CONSISTENCY_CHECK
    if not 0 <= size1 <= size2 <= SIZE_MAX:
        raise VerificationError(check, f"sizes run from {size1} to {size2}")
    _check_hashes(check, (root1, root2, *proof))
    if any(size == 0 and root != EMPTY_ROOT for size, root in ((size1, root1), (size2, root2))):
        raise VerificationError(check, "an empty tree has one root only")
    if size1 in {0, size2}:
        if proof:
            raise VerificationError(check, f"between {size1} and {size2} the proof must be empty")
        if size1 == size2 and root1 != root2:
            raise VerificationError(check, f"two roots at one size, {size1}")
        return
    if _roots_after(proof, size1, root1, size2) != (root1, root2):
        raise VerificationError(check, "does not lead to both roots")


def _roots_after(proof: Sequence[bytes], size1: int, root1: bytes, size2: int) -> tuple[bytes, bytes]:
    """Both roots that the proof leads to, for 0 < size1 < size2 (RFC 9162 2.1.4.2 steps 2 to 6)."""
    if not proof:
        raise VerificationError(CONSISTENCY_CHECK, "is empty")
    fn, sn = size1 - 1, size2 - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    # Of a first tree that is one complete subtree (fn is 0 now) the proof leaves out what is known: its root.
    path = list(proof) if fn else [root1, *proof]
    first = second = path[0]
    for sibling in path[1:]:
        if sn == 0:
            raise VerificationError(CONSISTENCY_CHECK, f"{len(proof)} hashes are too many")
        if fn & 1 or fn == sn:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            fn, sn = _climb(fn, sn)
        else:
            second = node_hash(second, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise VerificationError(CONSISTENCY_CHECK, f"{len(proof)} hashes are too few")
    return first, second


def _climb(fn: int, sn: int) -> tuple[int, int]:
    """Skip the levels at which the node is promoted for want of a sibling."""
    while fn and not fn & 1:
        fn, sn = fn >> 1, sn >> 1
    return fn, sn


def _check_hashes(check: str, hashes: Sequence[bytes]) -> None:
    if any(len(one) != HASH_BYTES for one in hashes):
        raise VerificationError(check, f"a hash is not {HASH_BYTES} bytes")
