"""The replayer is worth something: it has the core's numbers, and sees whatever contradicts them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pinaivu_enclave.core.commands import Tick
from pinaivu_shared.ids import digest_of
from pinaivu_shared.wire import link

from .market import Market, Node
from .replayer import replay
from .rule_again import Contradiction


@pytest.fixture
def worked(market: Market, cheap: Node, dear: Node) -> tuple[Market, dict[str, bytes]]:
    """A market whose log has every kind of leaf, and the transcripts of its awards."""
    Node(market, "third", operator=dear.operator).register().quote(30_000, 90_000)
    transcripts: dict[str, bytes] = {}
    for change in ({}, {"completion_tokens": 10**6}, {}):
        awarded = market.open_job()
        failed = market.apply(link.ReportFailure(awarded.request_id, 1, "busy")) if len(transcripts) == 1 else awarded
        transcripts[digest_of(failed.transcript)] = failed.transcript
        node = cheap if failed.node_id == cheap.node_id else dear
        market.settle(failed, node, proof=node.proof(failed, **change))
    market.acknowledge()
    market.now_ms += 120_000
    market.apply(Tick())
    market.pay_out(cheap.node_id, 5)
    return market, transcripts


def test_the_replayer_has_the_numbers_of_the_core(worked: tuple[Market, dict[str, bytes]]) -> None:
    market, transcripts = worked
    replayer, quality = replay(market.leaves, transcripts), market.coordinator._state.quality._standings
    assert {name: amount for name, amount in market.balances().items() if amount} == {
        name: amount for name, amount in replayer.balances.items() if amount
    }
    assert {node: one.quality_bps for node, one in quality.items()} == {
        node: one.quality for node, one in replayer.standings.items()
    }
    assert len({json.loads(leaf).get("type") for leaf in market.leaves}) == 7


def test_the_reason_on_a_receipt_is_enough_to_tell_which_empty_answer_counts(market: Market, cheap: Node) -> None:
    for may_be_empty in (True, False):
        market.settle(
            market.open_job(may_be_empty=may_be_empty), cheap, delivery=link.Delivery(0, digest_of(b"answer"))
        )
        core = market.coordinator._state.quality.standing(cheap.node_id, market.configuration.nodes)
        again = replay(market.leaves, {}).standings.get(cheap.node_id)
        assert (again is None) == may_be_empty, "nothing was said of the node before"
        assert again is None or (again.quality, again.slots) == (core.quality_bps, core.slots)


def at(leaf_type: str | None, *path: str | int) -> Callable[[list[Any]], None]:
    """Make the number or text at the end of the path another one, in the first leaf of this type that has one."""

    def change(leaves: list[Any]) -> None:
        leaf = next(one for one in leaves if one.get("type") == leaf_type)
        *way, last = path
        for name in way:
            leaf = leaf[name]
        leaf[last] = leaf[last] + 1_000 if isinstance(leaf[last], int) else leaf[last].replace("0.0000", "0.0001", 1)

    return change


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (at(None, "payment_amount"), "payment"),
        (at(None, "charge_amount"), "charge"),
        (at(None, "completion_tokens"), "payment"),
        (at(None, "auction", "input_price"), "payment|input_price"),
        (at(None, "auction", "bids"), "winner and number of bids"),
        (at(None, "log", "index"), "index"),
        (at("statement", "amount"), "sum of the statement"),
        (at("statement", "payable"), "payable"),
        (at("statement", "number"), "number of the statement"),
        (at("statement", "receipts", 0), "receipts of the statement"),
        (at("suspension", "until_ms"), "end of the suspension"),
        (lambda leaves: leaves[-1]["order"].update(amount=10**6), "would have"),
        (lambda leaves: leaves[2]["order"].update(amount=1), "would have"),
    ],
    ids=[
        *("payment", "charge", "tokens", "price", "bids", "index", "sum", "payable", "number", "receipts", "end"),
        *("a payout too large", "a deposit too small"),
    ],
)
def test_the_replayer_sees_what_contradicts(
    worked: tuple[Market, dict[str, bytes]], change: Callable[[list[Any]], None], what: str
) -> None:
    market, transcripts = worked
    leaves = [json.loads(leaf) for leaf in market.leaves]
    change(leaves)
    with pytest.raises(Contradiction, match=what):
        replay([json.dumps(leaf).encode() for leaf in leaves], transcripts)


@pytest.mark.parametrize("field", ["input_price", "output_price", "prompt_tokens", "bids"])
def test_the_replayer_runs_the_rule_itself(worked: tuple[Market, dict[str, bytes]], field: str) -> None:
    """A transcript that says something else is found even where its digest is not looked at."""
    market, transcripts = worked
    digest = json.loads(next(leaf for leaf in market.leaves if leaf.startswith(b'{"account"')))["auction"]["transcript"]
    forged = json.loads(transcripts[digest])
    forged[field] = forged[field][::-1] if field == "bids" else forged[field] + 5_000
    raw = json.dumps(forged).encode()
    leaves = [leaf.replace(digest.encode(), digest_of(raw).encode()) for leaf in market.leaves]
    with pytest.raises(Contradiction):
        replay(leaves, {digest_of(raw): raw})
