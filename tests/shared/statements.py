"""A genuine statement of a simulated market over two epochs, and ways to forge others with the market's own keys."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
from tests.enclave.market import ORIGIN, Market, Node
from tests.shared.evidence import Evidence, make_evidence

from pinaivu_enclave.core.commands import Tick
from pinaivu_enclave.core.keys import EpochKeys
from pinaivu_shared.canonical import encode
from pinaivu_shared.ids import digest_of
from pinaivu_shared.leaves import ConfigurationLeaf, EpochLeaf, StatementLeaf, parse_leaf, sign_leaf, sign_statement
from pinaivu_shared.log.checkpoint import sign_checkpoint
from pinaivu_shared.log.merkle import leaf_hash
from pinaivu_shared.log.proof import format_proof
from pinaivu_shared.log.tree import CompactRange, inclusion_proof
from pinaivu_shared.receipt import Receipt, sign_receipt

PERIOD_MS = 60_000
Json = dict[str, Any]


class Stated:
    """A market in its second epoch, with one statement of the node "cheap" over receipts of both epochs."""

    def __init__(self) -> None:
        first = Market()
        self.trust = make_evidence(first).trust  # runs a job of the same node
        self.market = market = Market(stored=tuple(first.leaves), checkpoint=first.checkpoint)
        self.node = Node(market, "cheap").register().quote()
        self.other = Node(market, "dear").register().quote(25_000, 75_000)
        for _ in range(3):
            market.settle(market.open_job(), self.node)
        market.acknowledge()
        market.now_ms += PERIOD_MS
        market.apply(Tick())
        market.acknowledge()

    @property
    def keys(self) -> EpochKeys:
        keys = self.market.boot._keys
        assert keys is not None
        return keys

    @property
    def leaf(self) -> StatementLeaf:
        (found,) = (leaf for leaf in map(parse_leaf, self.market.leaves) if isinstance(leaf, StatementLeaf))
        return found

    def evidence(self) -> Evidence:
        """The genuine bundle and the trust file."""
        leaf = self.leaf
        receipts = [self.market.leaves[index] for index in leaf.receipts]
        return Evidence(self.bundle(self.market.leaves[leaf.index], receipts), self.trust)

    def bundle(self, statement: bytes, receipts: list[bytes]) -> Json:
        """A bundle for this statement's leaf, put at its index of a log that the market's key signs."""
        index = json.loads(statement)["index"]
        return {
            "statement": json.loads(statement),
            "receipts": [json.loads(receipt) for receipt in receipts],
            "epochs": epochs(self.market.leaves),
            "proof": inclusion([*self.market.leaves[:index], statement], index, self.keys),
        }

    def forged(self, change: Callable[[StatementLeaf], StatementLeaf], receipts: list[bytes] | None = None) -> Evidence:
        """What a market would sign that does its books wrong: all signatures hold, the content does not."""
        unsigned = msgspec.structs.replace(change(self.leaf), settlement_signature="", coordinator_signature="")
        signed = sign_leaf(sign_statement(unsigned, self.keys.settlement), self.keys.receipt)
        genuine = [self.market.leaves[index] for index in self.leaf.receipts]
        return Evidence(self.bundle(signed, genuine if receipts is None else receipts), self.trust)

    def forged_receipt(self, **changes: Any) -> list[bytes]:
        """The genuine receipts, of which the last was changed and signed again."""
        *others, last = [self.market.leaves[index] for index in self.leaf.receipts]
        receipt = parse_leaf(last)
        assert isinstance(receipt, Receipt)
        unsigned = msgspec.structs.replace(receipt, coordinator_signature="", **changes)
        return [*others, sign_receipt(unsigned, self.keys.receipt)]


def epochs(leaves: list[bytes]) -> list[Json]:
    """Every epoch of a log, as bundles carry it."""
    parsed = [parse_leaf(leaf) for leaf in leaves]
    configurations = {
        digest_of(encode(leaf.configuration)): json.loads(encode(leaf.configuration))
        for leaf in parsed
        if isinstance(leaf, ConfigurationLeaf)
    }
    return [
        {
            "attestation": leaf.attestation,
            "manifest": json.loads(encode(leaf.manifest)),
            "configuration": configurations[leaf.manifest.configuration],
        }
        for leaf in parsed
        if isinstance(leaf, EpochLeaf)
    ]


def inclusion(leaves: list[bytes], index: int, keys: EpochKeys) -> str:
    """The proof of the leaf at `index` in a log of exactly these leaves."""
    nodes: dict[tuple[int, int], bytes] = {}
    tree = CompactRange()
    for leaf in leaves:
        nodes.update({(level, number): value for level, number, value in tree.append(leaf_hash(leaf))})
    hashes = inclusion_proof(index, tree.size, lambda level, number: nodes[level, number])
    return format_proof(index, hashes, sign_checkpoint(ORIGIN, tree.size, tree.root(), keys.checkpoint))
