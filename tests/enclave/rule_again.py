"""The rule second-score-v1 a second time, for the replayer: from a transcript to winner and prices, all our own."""

import hashlib
import json
from typing import Any

Json = dict[str, Any]


class Contradiction(Exception):  # noqa: N818 - what it is
    """Two things that cannot both be true."""


def check_transcript(receipt: Json, raw: bytes) -> None:
    """Run second-score-v1 again: the receipt's node won, at the receipt's prices, over so many bids."""
    auction, transcript = receipt["auction"], json.loads(raw)
    expect(auction["transcript"], "sha256:" + hashlib.sha256(raw).hexdigest(), "transcript")
    ranked = sorted((score(transcript, one["bid"]), one["bid"]["node_id"], one["bid"]) for one in transcript["bids"])
    best, node, winner = ranked[0]
    second = next((rank[0] for rank, _, bid in ranked if bid["operator"] != winner["operator"]), None)
    for name in ("input_price", "output_price"):
        reserve = transcript[name.replace("price", "reserve_price")]
        price = reserve if second is None else min(reserve, winner[name] * second // best[0])
        expect((auction[name], transcript[name]), (price, price), name)
    expect([one["bid"] for one in transcript["bids"]], [bid for _, _, bid in ranked], "order of the bids")
    expect([one["score"] for one in transcript["bids"]], [str(rank[0]) for rank, _, _ in ranked], "scores")
    expect((receipt["node_id"], auction["bids"]), (node, len(ranked)), "winner and number of bids")
    expect(transcript["attempt"], len(receipt["failed_attempts"]) + 1, "attempt")
    expect((transcript["request_id"], transcript["model"]), (receipt["request_id"], receipt["model"]), "request")
    if {one["node_id"] for one in receipt["failed_attempts"]} & {bid["node_id"] for _, _, bid in ranked}:
        raise Contradiction("a node that failed the job bids for it again")


def score(lot: Json, bid: Json) -> tuple[int, str]:
    """The score, and what ranks equal ones."""
    cost = bid["input_price"] * lot["prompt_tokens"] + bid["output_price"] * lot["completion_tokens"]
    tie = hashlib.sha256((lot["request_id"] + bid["node_id"]).encode()).hexdigest()
    return cost * 10_000 // bid["quality_bps"], tie


def expect(stated: object, recomputed: object, what: str) -> None:
    if stated != recomputed:
        raise Contradiction(f"{what}: the log says {stated}, recomputed it is {recomputed}")
