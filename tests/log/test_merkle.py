"""Merkle proofs are accepted exactly when RFC 9162 2.1 says so."""

import json
from pathlib import Path
from typing import Any

import pytest

from pinaivu_shared.errors import VerificationError
from pinaivu_shared.log.merkle import (
    EMPTY_ROOT,
    SIZE_MAX,
    check_consistency,
    check_inclusion,
    leaf_hash,
    node_hash,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "tlog" / "merkle-proofs.json"
CASES = json.loads(VECTORS.read_text())["cases"]
A, B, C = (leaf_hash(one) for one in (b"a", b"b", b"c"))
AB = node_hash(A, B)
ABC = node_hash(AB, C)


def judge(case: dict[str, Any]) -> None:
    proof = [bytes.fromhex(one) for one in case["proof"]]
    if case["kind"] == "inclusion":
        check_inclusion(
            proof,
            leaf_hash=bytes.fromhex(case["leaf_hash"]),
            index=case["index"],
            size=case["size"],
            root=bytes.fromhex(case["root"]),
        )
    else:
        check_consistency(
            proof,
            size1=case["size1"],
            root1=bytes.fromhex(case["root1"]),
            size2=case["size2"],
            root2=bytes.fromhex(case["root2"]),
        )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_published_proof_is_judged_as_published(case: dict[str, Any]) -> None:
    if case["valid"]:
        judge(case)
    else:
        with pytest.raises(VerificationError, match=f"^{case['kind']} proof: "):
            judge(case)


def test_leaves_and_nodes_are_hashed_apart_and_the_empty_tree_has_its_own_root() -> None:
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert node_hash(b"", b"").hex() == "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    ("proof", "index", "size"),
    [
        pytest.param([A, C], -1, 3, id="negative index"),
        pytest.param([A, C], 3, 3, id="index equal to size"),
        pytest.param([], 0, 0, id="empty tree"),
        pytest.param([A], 1, 3, id="too short"),
        pytest.param([A, C, C], 1, 3, id="too long"),
        pytest.param([A, C], 0, 3, id="of the neighbour"),
        pytest.param([A, C[:31]], 1, 3, id="short hash"),
        pytest.param([A, C], 1, SIZE_MAX + 2, id="beyond the largest tree"),
        pytest.param([A] * 64, 1, SIZE_MAX, id="more hashes than any tree has levels"),
    ],
)
def test_an_inclusion_proof_for_another_place_is_refused(proof: list[bytes], index: int, size: int) -> None:
    check_inclusion([A, C], leaf_hash=B, index=1, size=3, root=ABC)
    with pytest.raises(VerificationError, match=r"^inclusion proof: "):
        check_inclusion(proof, leaf_hash=B, index=index, size=size, root=ABC)


def test_an_inner_node_does_not_pass_for_a_leaf() -> None:
    with pytest.raises(VerificationError, match=r"^inclusion proof: "):
        check_inclusion([C], leaf_hash=leaf_hash(A + B), index=0, size=2, root=ABC)


def test_from_the_empty_tree_everything_follows_by_an_empty_proof() -> None:
    check_consistency([], size1=0, root1=EMPTY_ROOT, size2=0, root2=EMPTY_ROOT)
    check_consistency([], size1=0, root1=EMPTY_ROOT, size2=3, root2=ABC)


@pytest.mark.parametrize(
    ("proof", "size1", "root1", "size2", "root2"),
    [
        pytest.param([], 3, ABC, 3, AB, id="one size, two roots"),
        pytest.param([C], 3, ABC, 3, ABC, id="a proof where none is due"),
        pytest.param([A], 0, EMPTY_ROOT, 3, ABC, id="a proof from the empty tree"),
        pytest.param([], 0, ABC, 3, ABC, id="an empty tree with another root"),
        pytest.param([], 0, EMPTY_ROOT, 0, ABC, id="two empty trees, one with another root"),
        pytest.param([C], 3, ABC, 2, AB, id="backwards"),
        pytest.param([C], -1, AB, 3, ABC, id="negative size"),
        pytest.param([], 2, AB, 3, ABC, id="no proof"),
        pytest.param([C, C], 2, AB, 3, ABC, id="too long"),
        pytest.param([C], 2, AB, 5, ABC, id="too short"),
        pytest.param([C], 2, A, 3, ABC, id="another first root"),
        pytest.param([C], 2, AB, 3, AB, id="another second root"),
        pytest.param([C[:31]], 2, AB, 3, ABC, id="short hash"),
        pytest.param([C], 2, AB, SIZE_MAX + 1, ABC, id="beyond the largest tree"),
    ],
)
def test_a_tree_that_does_not_continue_the_other_is_refused(
    proof: list[bytes], size1: int, root1: bytes, size2: int, root2: bytes
) -> None:
    check_consistency([C], size1=2, root1=AB, size2=3, root2=ABC)
    with pytest.raises(VerificationError, match=r"^consistency proof: "):
        check_consistency(proof, size1=size1, root1=root1, size2=size2, root2=root2)
