"""Settlement statements: which receipts pay which node how much, signed, logged, and checked again at resumption."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_enclave.core.commands import Tick
from pinaivu_enclave.core.statements import STATEMENTS_AT_ONCE
from pinaivu_enclave.core.unstated import Unstated
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.leaves import (
    MAX_LEAF_BYTES,
    MAX_STATEMENT_RECEIPTS,
    StatementLeaf,
    parse_leaf,
    sign_leaf,
    sign_statement,
    verify_leaf,
    verify_statement_signature,
)
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.wire import link

from .market import Market, Node

PERIOD_MS = 60_000


def statements(market: Market, node: Node | None = None) -> list[StatementLeaf]:
    found = [leaf for leaf in map(parse_leaf, market.leaves) if isinstance(leaf, StatementLeaf)]
    return [leaf for leaf in found if node is None or leaf.node_id == node.node_id]


def work(market: Market, node: Node, jobs: int) -> int:
    """Let the node answer jobs, durably; what they pay."""
    node.quote()
    paid = sum(parse_usdc(market.settle(market.open_job(), node).payment_amount) for _ in range(jobs))
    market.acknowledge()
    return paid


def end_of_period(market: Market) -> None:
    market.now_ms = (market.now_ms // PERIOD_MS + 1) * PERIOD_MS
    market.apply(Tick())


@pytest.fixture
def node(market: Market) -> Node:
    return Node(market, "a").register()


def test_a_statement_sums_the_receipts_of_a_period_that_ended(market: Market, node: Node) -> None:
    paid = work(market, node, 3)
    end_of_period(market)
    (leaf,) = statements(market)
    assert leaf.receipts == tuple(one.log.index for one in market.receipts())
    assert (leaf.node_id, leaf.number, leaf.amount, leaf.payable) == (node.node_id, 1, paid, paid)
    assert leaf.period_start_ms <= market.now_ms == leaf.period_end_ms


def test_it_is_signed_by_the_settlement_key_and_by_the_epochs(market: Market, node: Node) -> None:
    work(market, node, 1)
    end_of_period(market)
    (leaf,) = statements(market)
    verify_statement_signature(leaf, bytes.fromhex(market.manifest.settlement_key))
    verify_leaf(leaf, market.manifest.receipt_public_key())


def test_what_was_stated_moves_from_earned_to_payable(market: Market, node: Node) -> None:
    paid = work(market, node, 2)
    assert market.balances()[f"node:{node.node_id}"] == paid
    end_of_period(market)
    assert market.balances()[f"node:{node.node_id}"] == 0
    assert market.balances()[f"payable:{node.node_id}"] == paid


def test_nothing_is_stated_before_the_period_ends_or_twice(market: Market, node: Node) -> None:
    work(market, node, 2)
    market.apply(Tick())
    assert statements(market) == []
    end_of_period(market)
    market.apply(Tick())
    assert len(statements(market)) == 1


def test_the_next_statement_goes_on_where_the_last_one_ended(market: Market, node: Node) -> None:
    first = work(market, node, 1)
    end_of_period(market)
    second = work(market, node, 2)
    end_of_period(market)
    one, other = statements(market)
    assert (other.number, other.period_start_ms) == (2, one.period_end_ms)
    assert (other.amount, other.payable) == (second, first + second)
    assert set(one.receipts).isdisjoint(other.receipts)


def test_receipts_that_are_not_durable_wait(market: Market, node: Node) -> None:
    node.quote()
    market.settle(market.open_job(), node)
    end_of_period(market)
    assert statements(market) == []
    market.acknowledge()
    market.apply(Tick())
    assert len(statements(market)) == 1


def test_receipts_that_pay_nothing_are_in_no_statement(market: Market, node: Node) -> None:
    node.quote()
    market.settle(market.open_job(), node, outcome="failed", proof=None)
    work(market, node, 1)
    end_of_period(market)
    (leaf,) = statements(market)
    assert leaf.receipts == (market.receipts()[1].log.index,)


def test_each_node_has_its_own_statement(market: Market) -> None:
    nodes = [Node(market, name).register() for name in "ab"]
    paid = []
    for one in nodes:
        paid.append(work(market, one, 2))
        market.apply(link.WithdrawQuotes(one.session, ""))
    end_of_period(market)
    assert [leaf.amount for one in nodes for leaf in statements(market, one)] == paid
    assert [leaf.number for leaf in statements(market)] == [1, 1]


def test_no_tick_writes_more_than_some_statements() -> None:
    market = Market()
    nodes = [Node(market, str(number)).register() for number in range(STATEMENTS_AT_ONCE + 3)]
    for one in nodes:
        work(market, one, 1)
        market.apply(link.WithdrawQuotes(one.session, ""))
    end_of_period(market)
    assert len(statements(market)) == STATEMENTS_AT_ONCE
    market.apply(Tick())
    assert len({leaf.node_id for leaf in statements(market)}) == len(nodes)


def test_no_node_waits_for_ever_behind_others_that_earn_more() -> None:
    """Those that were stated longest ago come first."""
    terms = msgspec.structs.replace(Market().configuration.nodes, statement_period_ms=1_000)
    market = Market(nodes=terms)
    nodes = [Node(market, str(number)).register() for number in range(STATEMENTS_AT_ONCE + 1)]
    for _ in range(2):
        for one in nodes:
            work(market, one, 1)
            market.apply(link.WithdrawQuotes(one.session, ""))
        market.now_ms += 1_000
        market.apply(Tick())
    assert {leaf.node_id for leaf in statements(market)} == {one.node_id for one in nodes}


def test_no_statement_outgrows_a_leaf() -> None:
    """At the largest numbers that its fields take."""
    most = 2**53 - 1
    leaf = StatementLeaf(
        index=most,
        node_id="node_" + "f" * 32,
        number=most,
        receipts=tuple(most - number for number in range(MAX_STATEMENT_RECEIPTS)),
        amount=most,
        payable=most,
        period_start_ms=most,
        period_end_ms=most,
        settlement_signature="",
        coordinator_signature="",
    )
    market = Market()
    keys = market.boot._keys
    assert keys is not None
    raw = sign_leaf(sign_statement(leaf, keys.settlement), keys.receipt)
    assert len(raw) <= MAX_LEAF_BYTES
    assert isinstance(parse_leaf(raw), StatementLeaf)


@pytest.fixture
def stated(market: Market, node: Node) -> Market:
    """A market with two statements."""
    for _ in range(2):
        work(market, node, 3)
        end_of_period(market)
    return market


def resumed_with(market: Market, which: int, change: dict[str, Any], key: Ed25519PrivateKey | None = None) -> Market:
    """Resume from leaves among which one statement says something else, under the enclave's own signatures."""
    keys = market.boot._keys
    assert keys is not None
    leaf = msgspec.structs.replace(statements(market)[which], **change)
    raw = sign_leaf(sign_statement(leaf, key or keys.settlement), keys.receipt)
    leaves = [raw if parse_leaf(one) == statements(market)[which] else one for one in market.leaves]
    return Market(stored=tuple(leaves), checkpoint="", now_ms=market.now_ms)


def test_statements_and_what_is_payable_come_back_after_a_restart(stated: Market, node: Node) -> None:
    again = resumed_with(stated, 1, {})
    assert again.coordinator._state.ledger.posted() == stated.coordinator._state.ledger.posted()
    node.market = again
    node.register()
    work(again, node, 1)
    end_of_period(again)
    assert [leaf.number for leaf in statements(again)] == [1, 2, 3]


@pytest.mark.parametrize(
    "change",
    [
        lambda leaf: {"receipts": leaf.receipts[:-1]},
        lambda leaf: {"receipts": leaf.receipts[1:]},
        lambda leaf: {"receipts": leaf.receipts[::-1]},
        lambda leaf: {"receipts": (*leaf.receipts, leaf.receipts[-1] + 1)},
        lambda leaf: {"receipts": tuple(index - 1 for index in leaf.receipts)},
        lambda leaf: {"amount": leaf.amount + 1},
        lambda leaf: {"amount": leaf.amount - 1},
        lambda leaf: {"number": leaf.number + 1},
        lambda leaf: {"payable": leaf.payable + 1},
        lambda leaf: {"node_id": "node_" + "0" * 32},
    ],
    ids=[
        *("one left out", "the first left out", "turned round", "one too many", "others", "more", "less", "number"),
        *("payable", "node"),
    ],
)
@pytest.mark.parametrize("which", [0, 1])
def test_a_statement_that_its_receipts_do_not_bear_out_is_refused(
    stated: Market, which: int, change: Callable[[StatementLeaf], dict[str, Any]]
) -> None:
    with pytest.raises(VerificationError, match="statement"):
        resumed_with(stated, which, change(statements(stated)[which]))


def test_a_statement_signed_by_another_settlement_key_is_refused(stated: Market) -> None:
    with pytest.raises(VerificationError, match="statement signature"):
        resumed_with(stated, 0, {}, Ed25519PrivateKey.from_private_bytes(bytes(32)))


@pytest.mark.parametrize("other", [0, 2, 4, 8])
def test_a_statement_at_another_place_is_refused(stated: Market, other: int) -> None:
    leaves = list(stated.leaves)
    at = next(index for index, raw in enumerate(leaves) if b'"type":"statement"' in raw)
    leaves[at], leaves[other] = leaves[other], leaves[at]
    with pytest.raises(VerificationError, match="says that it is leaf"):
        Market(stored=tuple(leaves), checkpoint="")


AMOUNTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5_000)), min_size=1, max_size=30)


@given(AMOUNTS, st.integers(0, 100_000), st.integers(0, 40), st.integers(1, 40))
def test_due_are_the_oldest_that_are_durable_and_of_an_ended_period(
    receipts: list[tuple[int, int]], before_ms: int, durable: int, limit: int
) -> None:
    unstated, written_ms, expected = Unstated(), 0, []
    market = Market()
    node = Node(market, "a").register().quote()
    template = market.settle(market.open_job(), node)
    for index, (amount, later_ms) in enumerate(receipts):
        written_ms += later_ms
        receipt = msgspec.structs.replace(
            template,
            payment_amount=f"0.{amount:06d} USDC",
            timestamp=f"1970-01-01T00:{written_ms // 60_000:02d}:{written_ms // 1000 % 60:02d}Z",
            log=msgspec.structs.replace(template.log, index=index),
        )
        unstated.fold_receipt(receipt)
        if amount and index < durable and written_ms // 1000 * 1000 < before_ms:
            expected.append((index, amount))
    if list(unstated.nodes()):
        due = unstated.due(node.node_id, before_ms=before_ms, durable=durable, limit=limit)
        assert [(one.index, one.amount) for one in due] == expected[:limit]
    else:
        assert not expected


def test_a_longer_period_states_nothing_twice_and_none_backwards(market: Market, node: Node) -> None:
    work(market, node, 1)
    end_of_period(market)
    (first,) = statements(market)
    work(market, node, 1)
    longer = msgspec.structs.replace(market.configuration.nodes, statement_period_ms=86_400_000)
    again = Market(stored=tuple(market.leaves), checkpoint=market.checkpoint, nodes=longer, now_ms=market.now_ms)
    again.apply(Tick())
    assert statements(again) == [first]
    again.now_ms = first.period_end_ms // 86_400_000 * 86_400_000 + 86_400_000
    again.apply(Tick())
    assert statements(again)[-1].period_end_ms > first.period_end_ms
