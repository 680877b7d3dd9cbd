"""A genuine bundle of a simulated market, and the trust file that goes with it, for tests to tamper with."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from tests.enclave.market import ORIGIN, Market, Node

from pinaivu_shared.commitments import canonical_bytes, forwarded_commitment, request_commitment, response_commitment
from pinaivu_shared.forwarding import Endpoint, forwarded_of
from pinaivu_shared.leaves import EpochLeaf, parse_leaf
from pinaivu_shared.log.keys import format_vkey
from pinaivu_shared.log.merkle import leaf_hash
from pinaivu_shared.log.proof import format_proof
from pinaivu_shared.log.tree import CompactRange, inclusion_proof
from pinaivu_shared.own_copies import delivered_bytes
from pinaivu_shared.signed import Signed
from pinaivu_shared.wire import link
from pinaivu_simulator.nsm import SIMULATED_MEASUREMENTS

SALT = bytes(range(32))
REQUEST: dict[str, Any] = {
    "model": "pinaivu-tiny",
    "messages": [{"role": "user", "content": "Grüß Gott, 世界 🙂"}],
    "temperature": 0.7,
    "user": "somebody",
}
ANSWER: list[dict[str, Any]] = [
    {"index": 0, "message": {"role": "assistant", "content": "Hello, 世界."}, "finish_reason": "stop"}
]


@dataclass(frozen=True)
class Evidence:
    """Bundle and trust file as JSON objects; tests copy and change them."""

    bundle: dict[str, Any]
    trust: dict[str, Any]


@dataclass(frozen=True)
class Told:
    """A request, its answer, and what the host says of them, which is true as it stands.

    `given` is what the node got, `job` what else the host opened the job with, `settled` what it settled it with;
    `tokens` are those that the node claims.
    """

    request: dict[str, Any] = field(default_factory=lambda: REQUEST)
    answer: list[dict[str, Any]] = field(default_factory=lambda: ANSWER)
    endpoint: Endpoint = "chat"
    given: dict[str, Any] | None = None
    job: dict[str, Any] = field(default_factory=dict)
    settled: dict[str, Any] = field(default_factory=dict)
    delivered: int | None = None
    tokens: tuple[int, int] = (38, 12)


def make_evidence(market: Market | None = None, told: Told | None = None) -> Evidence:
    """Run one job in a market and gather everything offline verification needs."""
    market, told = market or Market(), told or Told()
    kinds = {"capabilities": ("chat", "completions", "embeddings")}
    cheap = Node(market, "cheap").register().quote(20_000, 60_000, **kinds)
    Node(market, "dear").register().quote(25_000, 75_000, **kinds)
    given = told.given or forwarded_of(told.endpoint, told.request)
    job = {
        "request_commitment": request_commitment(told.request, SALT),
        "forwarded_commitment": forwarded_commitment(given, SALT),
        "request_bytes": len(canonical_bytes(given)),
        **told.job,
    }
    awarded = market.open_job(**job)
    answered = response_commitment(told.answer, SALT)
    delivered = delivered_bytes(told.answer) if told.delivered is None else told.delivered
    prompt, completion = told.tokens
    proof = cheap.proof(awarded, response_commitment=answered, prompt_tokens=prompt, completion_tokens=completion)
    settled = {"delivery": link.Delivery(delivered, answered), "proof": proof, **told.settled}
    receipt = market.settle(awarded, cheap, **settled)
    market.acknowledge()
    return Evidence(
        bundle={
            "receipt": json.loads(market.leaves[receipt.log.index]),
            "opening": {"salt": SALT.hex()},
            "attestation": base64.b64encode(_document(market)).decode(),
            "manifest": json.loads(market.epoch.manifest),
            "configuration": json.loads(market.epoch.configuration),
            "transcript": json.loads(awarded.transcript),
            **({"node_proof": _shown(proof)} if receipt.node_proof else {}),
            "proof": _inclusion(market, receipt.log.index),
        },
        trust=_trust(market),
    )


def _shown(proof: Signed) -> dict[str, str]:
    return {
        "payload": base64.b64encode(proof.payload).decode(),
        "signature": base64.b64encode(proof.signature).decode(),
    }


def _document(market: Market) -> bytes:
    epochs = [leaf for leaf in map(parse_leaf, market.leaves) if isinstance(leaf, EpochLeaf)]
    return base64.b64decode(epochs[-1].attestation)


def _inclusion(market: Market, index: int) -> str:
    nodes: dict[tuple[int, int], bytes] = {}
    tree = CompactRange()
    for leaf in market.leaves:
        nodes.update({(level, number): value for level, number, value in tree.append(leaf_hash(leaf))})
    hashes = inclusion_proof(index, tree.size, lambda level, number: nodes[level, number])
    return format_proof(index, hashes, market.checkpoint)


def _trust(market: Market) -> dict[str, Any]:
    keys = market.boot._keys
    assert keys is not None
    return {
        "platform": "simulator",
        "root": market.boot._platform.root.public_bytes(Encoding.PEM).decode(),
        "pcrs": {str(index): value.hex() for index, value in SIMULATED_MEASUREMENTS.items()},
        "origin": ORIGIN,
        "log_keys": [format_vkey(keys.log_key(ORIGIN))],
        "witnesses": [],
        "quorum": 0,
    }
