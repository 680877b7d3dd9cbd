"""A tree grown leaf by leaf has the root of the definition, and its proofs hold and nothing like them does."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pinaivu_shared.errors import VerificationError
from pinaivu_shared.log.merkle import (
    EMPTY_ROOT,
    SIZE_MAX,
    check_consistency,
    check_inclusion,
    leaf_hash,
    node_hash,
)
from pinaivu_shared.log.tree import (
    CompactRange,
    consistency_nodes,
    consistency_proof,
    edge_nodes,
    inclusion_nodes,
    inclusion_proof,
)

SIZES = 70
LEAVES = [leaf_hash(b"leaf %d" % index) for index in range(SIZES)]
Table = dict[tuple[int, int], bytes]


def root_of(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962 2.1, as it is written there."""
    if len(hashes) < 2:
        return hashes[0] if hashes else EMPTY_ROOT
    k = 1
    while 2 * k < len(hashes):
        k *= 2
    return node_hash(root_of(hashes[:k]), root_of(hashes[k:]))


def grown(size: int) -> tuple[CompactRange, Table]:
    tree, table = CompactRange(), Table()
    for leaf in LEAVES[:size]:
        for level, index, subtree in tree.append(leaf):
            assert (level, index) not in table, "each subtree is completed once"
            table[level, index] = subtree
    return tree, table


TABLE = grown(SIZES)[1]
ROOTS = [root_of(LEAVES[:size]) for size in range(SIZES + 1)]


def complete_only(size: int, reads: list[tuple[int, int]]) -> Callable[[int, int], bytes]:
    """Reader that knows what a table holds once `size` leaves are in."""

    def node(level: int, index: int) -> bytes:
        assert (index + 1) << level <= size, f"level {level} index {index} is not complete at {size}"
        reads.append((level, index))
        return TABLE[level, index]

    return node


def bent(proof: list[bytes]) -> Iterator[list[bytes]]:
    """Proofs that differ from this one: bits flipped, hashes lost, added, exchanged."""
    for place, one in enumerate(proof):
        for bit in (0, 100, 255):
            flipped = int.from_bytes(one, "big") ^ 1 << bit
            yield [*proof[:place], flipped.to_bytes(32, "big"), *proof[place + 1 :]]
        yield proof[:place] + proof[place + 1 :]
        yield [*proof[:place], one, *proof[place:]]
        yield [*proof[:place], one[:31], *proof[place + 1 :]]
        if place:
            yield [*proof[: place - 1], one, proof[place - 1], *proof[place + 1 :]]
    yield [*proof, bytes(32)]
    yield [bytes(32), *proof]


def test_every_size_has_the_root_of_the_definition() -> None:
    for size in range(SIZES + 1):
        tree, _ = grown(size)
        assert (tree.size, tree.root()) == (size, ROOTS[size])


@given(st.lists(st.binary(max_size=4), max_size=600))
@settings(max_examples=50, deadline=None)
def test_any_leaves_have_the_root_of_the_definition(leaves: list[bytes]) -> None:
    tree, hashes = CompactRange(), [leaf_hash(one) for one in leaves]
    for one in hashes:
        tree.append(one)
    assert tree.root() == root_of(hashes)


def test_the_completed_subtrees_are_the_definition_too() -> None:
    for (level, index), subtree in TABLE.items():
        assert subtree == root_of(LEAVES[index << level : (index + 1) << level])
    assert len(TABLE) == sum(SIZES >> level for level in range(7))


def test_an_append_returns_its_leaf_first_and_then_what_it_completed() -> None:
    tree, _ = grown(7)
    assert [place[:2] for place in tree.append(LEAVES[7])] == [(0, 7), (1, 3), (2, 1), (3, 0)]
    assert [place[:2] for place in tree.append(LEAVES[8])] == [(0, 8)]


def test_every_inclusion_proof_holds_and_reads_complete_subtrees_only() -> None:
    for size in range(1, SIZES + 1):
        for index in range(size):
            reads: list[tuple[int, int]] = []
            proof = inclusion_proof(index, size, complete_only(size, reads))
            check_inclusion(proof, leaf_hash=LEAVES[index], index=index, size=size, root=ROOTS[size])
            assert reads == inclusion_nodes(index, size)
            assert len(reads) <= 2 * size.bit_length()


def test_every_consistency_proof_holds_and_reads_complete_subtrees_only() -> None:
    for size2 in range(SIZES + 1):
        for size1 in range(size2 + 1):
            reads: list[tuple[int, int]] = []
            proof = consistency_proof(size1, size2, complete_only(size2, reads))
            check_consistency(proof, size1=size1, root1=ROOTS[size1], size2=size2, root2=ROOTS[size2])
            assert reads == consistency_nodes(size1, size2)
            assert len(reads) <= 2 * size2.bit_length()


def test_no_bent_inclusion_proof_holds() -> None:
    for size in range(1, 18):
        for index in range(size):
            proof = inclusion_proof(index, size, lambda level, index: TABLE[level, index])
            for wrong in bent(proof):
                with pytest.raises(VerificationError, match=r"^inclusion proof: "):
                    check_inclusion(wrong, leaf_hash=LEAVES[index], index=index, size=size, root=ROOTS[size])
            for other in range(-1, size + 2):
                if other != index:
                    with pytest.raises(VerificationError, match=r"^inclusion proof: "):
                        check_inclusion(proof, leaf_hash=LEAVES[index], index=other, size=size, root=ROOTS[size])


def test_no_bent_consistency_proof_holds() -> None:
    for size2 in range(18):
        for size1 in range(1, size2 + 1):
            proof = consistency_proof(size1, size2, lambda level, index: TABLE[level, index])
            for wrong in bent(proof):
                with pytest.raises(VerificationError, match=r"^consistency proof: "):
                    check_consistency(wrong, size1=size1, root1=ROOTS[size1], size2=size2, root2=ROOTS[size2])


@given(st.integers(1, SIZE_MAX), st.integers(0, SIZE_MAX))
@example(2**62 + 1, 2)  # the longest consistency proof there is: 64 hashes
@settings(max_examples=200, deadline=None)
def test_the_largest_trees_have_short_proofs(size: int, index: int) -> None:
    index %= size
    levels = [leaf_hash(b"the same everywhere")]  # a tree of equal leaves: a subtree's hash depends on its level
    while len(levels) < 64:
        levels.append(node_hash(levels[-1], levels[-1]))

    def root_at(size: int) -> bytes:
        root = b""
        for level, _ in reversed(edge_nodes(size)):
            root = node_hash(levels[level], root) if root else levels[level]
        return root

    def node(level: int, index: int) -> bytes:
        assert (index + 1) << level <= size
        return levels[level]

    proof = inclusion_proof(index, size, node)
    assert len(proof) <= 63
    check_inclusion(proof, leaf_hash=levels[0], index=index, size=size, root=root_at(size))
    proof = consistency_proof(index + 1, size, node)
    assert len(proof) <= 64
    check_consistency(proof, size1=index + 1, root1=root_at(index + 1), size2=size, root2=root_at(size))


@pytest.mark.parametrize("size", range(0, SIZES, 3))
def test_a_tree_taken_up_from_its_edge_goes_on_as_before(size: int) -> None:
    edge = [TABLE[place] for place in edge_nodes(size)]
    tree = CompactRange.restore(size=size, edge=edge, root=ROOTS[size])
    assert tree.edge == tuple(edge) == grown(size)[0].edge
    for leaf in LEAVES[size:]:
        tree.append(leaf)
    assert tree.root() == ROOTS[SIZES]


def test_an_edge_that_is_not_of_this_tree_is_refused() -> None:
    edge = list(grown(11)[0].edge)
    for wrong in [*bent(edge), edge[::-1], []]:
        with pytest.raises(VerificationError, match=r"^right edge: "):
            CompactRange.restore(size=11, edge=wrong, root=ROOTS[11])
    for size, root in [(11, ROOTS[12]), (12, ROOTS[11]), (7, ROOTS[7]), (-1, EMPTY_ROOT), (0, ROOTS[11])]:
        with pytest.raises(VerificationError, match=r"^right edge: "):
            CompactRange.restore(size=size, edge=edge, root=root)
    with pytest.raises(VerificationError, match=r"^right edge: "):
        CompactRange.restore(size=SIZE_MAX + 1, edge=[bytes(32)], root=bytes(32))


def test_a_copy_and_its_original_grow_apart() -> None:
    tree, _ = grown(6)
    twin = tree.copy()
    twin.append(LEAVES[6])
    assert (tree.size, tree.root(), twin.size, twin.root()) == (6, ROOTS[6], 7, ROOTS[7])
    tree.append(LEAVES[6])
    assert tree.root() == twin.root()


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0), (0, SIZE_MAX + 1)])
def test_a_leaf_outside_the_tree_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(VerificationError, match=r"^inclusion proof: "):
        inclusion_proof(index, size, complete_only(SIZES, []))


@pytest.mark.parametrize(("size1", "size2"), [(4, 3), (-1, 3), (0, SIZE_MAX + 1)])
def test_there_is_no_proof_backwards(size1: int, size2: int) -> None:
    with pytest.raises(VerificationError, match=r"^consistency proof: "):
        consistency_proof(size1, size2, complete_only(SIZES, []))
