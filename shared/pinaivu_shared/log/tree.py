"""Growing a Merkle tree and building its proofs, without ever holding the tree (RFC 9162 2.1).

A complete subtree has 2**level leaves and is named by (level, index): it covers the leaves from
index * 2**level on; level 0 are the leaf hashes. Once complete it never changes. So whoever appends keeps the
few complete subtrees of the right edge only, and whoever serves proofs keeps a table of all complete subtrees.
"""

from collections.abc import Callable, Sequence

from pinaivu_shared.errors import VerificationError
from pinaivu_shared.log.merkle import (
    CONSISTENCY_CHECK,
    EMPTY_ROOT,
    HASH_BYTES,
    INCLUSION_CHECK,
    SIZE_MAX,
    node_hash,
)

EDGE_CHECK = "right edge"

Subtree = tuple[int, int, bytes]  # (level, index, hash): a row of that table
NodePlace = tuple[int, int]  # (level, index) of a complete subtree
ReadNode = Callable[[int, int], bytes]  # its hash, 32 bytes


class CompactRange:
    """A growing tree, held as the roots of the complete subtrees on its right edge: log2(size) hashes at most.

    Not for concurrent use.
    """

    __slots__ = ("_edge", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._edge: list[bytes] = []  # largest subtree first, one per bit set in the size

    @classmethod
    def restore(cls, *, size: int, edge: Sequence[bytes], root: bytes) -> "CompactRange":
        """Take up the tree of `size` leaves with this root again, from the `edge` of back then.

        The edge may come from anyone: only the true one leads to the root.

        Raises:
            VerificationError: "right edge", also for a size outside 0..2**63-1.

        """
        if not 0 <= size <= SIZE_MAX:
            raise VerificationError(EDGE_CHECK, f"no tree has {size} leaves")
        if len(edge) != size.bit_count() or any(len(one) != HASH_BYTES for one in edge):
            raise VerificationError(EDGE_CHECK, f"{size} leaves need {size.bit_count()} hashes of {HASH_BYTES} bytes")
        restored = cls()
        restored._size, restored._edge = size, list(edge)
        if restored.root() != root:
            raise VerificationError(EDGE_CHECK, "does not lead to the root")
        return restored

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._size

    @property
    def edge(self) -> tuple[bytes, ...]:
        """Hashes of the complete subtrees of the right edge, largest first; `edge_nodes` names their places."""
        return tuple(self._edge)

    def append(self, leaf_hash: bytes) -> list[Subtree]:
        """Add one leaf by its hash; return every subtree that it completed, itself first, levels ascending."""
        assert len(leaf_hash) == HASH_BYTES, "append takes the hash of a leaf"
        edge, index, level, completed = self._edge, self._size, 0, leaf_hash
        subtrees = [(0, index, completed)]
        while index & 1:  # a left neighbour of the same size waits on the edge
            completed = node_hash(edge.pop(), completed)
            index >>= 1
            level += 1
            subtrees.append((level, index, completed))
        edge.append(completed)
        self._size += 1
        return subtrees

    def root(self) -> bytes:
        """Root hash of the tree as it is now, 32 bytes."""
        return _fold(self._edge) if self._edge else EMPTY_ROOT

    def copy(self) -> "CompactRange":
        """Return a tree of its own that stands where this one stands now."""
        twin = CompactRange()
        twin._size, twin._edge = self._size, list(self._edge)
        return twin


def edge_nodes(size: int) -> list[NodePlace]:
    """Places of the complete subtrees that make up a tree of `size` leaves, in the order of `CompactRange.edge`."""
    return _cover(0, size)


def inclusion_nodes(index: int, size: int) -> list[NodePlace]:
    """Places that `inclusion_proof` will read, for one query instead of many; errors are the same."""
    return [place for span in _inclusion_spans(index, size) for place in _cover(*span)]


def inclusion_proof(index: int, size: int, node: ReadNode) -> list[bytes]:
    """Hashes from the sibling of leaf `index` up to the root's child, in the tree of the first `size` leaves.

    Reads at most 2 * log2(size) complete subtrees (RFC 9162 2.1.3.1).

    Raises:
        VerificationError: "inclusion proof" if there is no such leaf.

    """
    return [_root_of(span, node) for span in _inclusion_spans(index, size)]


def consistency_nodes(size1: int, size2: int) -> list[NodePlace]:
    """Places that `consistency_proof` will read, for one query instead of many; errors are the same."""
    return [place for span in _consistency_spans(size1, size2) for place in _cover(*span)]


def consistency_proof(size1: int, size2: int, node: ReadNode) -> list[bytes]:
    """Hashes that show the first `size1` leaves to be the beginning of the first `size2` (RFC 9162 2.1.4.1).

    Empty if the sizes are equal or `size1` is 0. Reads at most 2 * log2(size2) complete subtrees.

    Raises:
        VerificationError: "consistency proof" if the sizes run backwards.

    """
    return [_root_of(span, node) for span in _consistency_spans(size1, size2)]


_Span = tuple[int, int]  # leaves from the first number up to, not including, the second


def _inclusion_spans(index: int, size: int) -> list[_Span]:
    """PATH(index, D[size]) as the spans whose subtree roots it consists of, lowest first."""
    if not 0 <= index < size <= SIZE_MAX:
        raise VerificationError(INCLUSION_CHECK, f"index {index} is outside a tree of {size} leaves")
    begin, end, spans = 0, size, []
    while end - begin > 1:
        middle = begin + _left_width(end - begin)
        if index < middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((begin, middle))
            begin = middle
    return spans[::-1]


def _consistency_spans(size1: int, size2: int) -> list[_Span]:
    """PROOF(size1, D[size2]) as the spans whose subtree roots it consists of, lowest first."""
    if not 0 <= size1 <= size2 <= SIZE_MAX:
        raise VerificationError(CONSISTENCY_CHECK, f"sizes run from {size1} to {size2}")
    if size1 in {0, size2}:
        return []
    begin, end, spans = 0, size2, []
    while end != size1:
        middle = begin + _left_width(end - begin)
        if size1 <= middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((begin, middle))
            begin = middle
    if begin:  # else what remains is the whole first tree, whose root the verifier has
        spans.append((begin, end))
    return spans[::-1]


def _left_width(width: int) -> int:
    """Leaves in the left child of a tree of `width` > 1 leaves: the largest power of two below it."""
    return 1 << ((width - 1).bit_length() - 1)


def _cover(begin: int, end: int) -> list[NodePlace]:
    """Complete subtrees that make up a span of the proofs above, largest first.

    Such a span begins at a multiple of a power of two not below its width, so each bit of the width is one.
    """
    width, places = end - begin, []
    for level in reversed(range(width.bit_length())):
        if width >> level & 1:
            places.append((level, begin >> level))
            begin += 1 << level
    return places


def _root_of(span: _Span, node: ReadNode) -> bytes:
    return _fold([node(level, index) for level, index in _cover(*span)])


def _fold(subtrees: Sequence[bytes]) -> bytes:
    """Root over complete subtrees of falling size: the smaller ones are the right children."""
    root = subtrees[-1]
    for left in reversed(subtrees[:-1]):
        root = node_hash(left, root)
    return root
