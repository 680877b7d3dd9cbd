"""What the long run says where a check fails: which account, node or job, both values, and the leaf to begin with."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from pinaivu_shared.wire import link

from .long_run_checks import Checks
from .market import ACCOUNT, CREDIT, Market, Node
from .rule_again import Contradiction

CUSTOMER = f"customer:{ACCOUNT}"


@pytest.fixture
def settled(market: Market, cheap: Node) -> tuple[Checks, list[Any]]:
    """The checks before a job is settled that they saw awarded and accepted, and what its settlement gives."""
    checks, awarded = Checks(market), market.open_job()
    checks._awarded(awarded, ACCOUNT)
    market.apply(cheap.accept(awarded))
    checks.open[awarded.request_id].stage = 1
    settle = cheap.completed(awarded)
    checks.told(settle)
    effects = market.coordinator.apply(settle, market.now_ms)
    market._keep(effects)
    return checks, effects


@pytest.fixture
def checks(settled: tuple[Checks, list[Any]]) -> Checks:
    """The checks after the job, which found nothing."""
    found, effects = settled
    found.after(effects, 0, {})
    found.whole()
    return found


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        ({CUSTOMER: 7}, r"sum of all accounts after leaf \d: is 7, expected 0"),
        ({CUSTOMER: -CREDIT, "fees": CREDIT}, rf"{CUSTOMER} has -\d+ after leaf \d, at least 0"),
        ({CUSTOMER: -9, "hold": 9}, r"hold after leaf \d, by the awards that are open: is 9, expected 0"),
    ],
    ids=["money from nowhere", "an account that owes", "a hold for nothing"],
)
def test_a_wrong_balance_is_named_with_both_values(checks: Checks, moved: dict[str, int], said: str) -> None:
    balances = checks.market.coordinator._state.ledger._balances
    for name, amount in moved.items():
        balances[name] = balances.get(name, 0) + amount
    with pytest.raises(AssertionError, match=said):
        checks.balances()


def more_quality(checks: Checks, node: str) -> None:
    checks.replayer.standings[node].quality += 1


def other_average(checks: Checks, _: str) -> None:
    checks.replayer.averages["pinaivu-tiny"] += 1


def forgotten_receipt(checks: Checks, node: str) -> None:
    checks.replayer.unstated[node].clear()


def more_money(checks: Checks, node: str) -> None:
    checks.replayer.balances["node:" + node] += 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (more_money, r"micro-USDC: 1 of 4 differ\n  node:{node}: the core has 11, the leaves come to 12; "),
        (more_quality, r"quality, .*: 1 of 1 differ\n  {node}: the core has \((\d+), .*, the leaves come to \((\d+), "),
        (other_average, r"average .*: 1 of 1 differ\n  pinaivu-tiny: the core has \d+, the leaves come to \d+; "),
        (
            forgotten_receipt,
            r"receipts in no statement: .*\n  {node}: the core has \[\(4, 11\)\], the leaves come to \[\]; ",
        ),
    ],
    ids=["a balance", "a standing", "an average", "a receipt"],
)
def test_a_number_that_the_leaves_do_not_give_is_named_with_its_last_leaf(
    checks: Checks, cheap: Node, change: Callable[[Checks, str], None], said: str
) -> None:
    change(checks, cheap.node_id)
    with pytest.raises(AssertionError, match=said.replace("{node}", cheap.node_id)) as caught:
        checks.whole()
    index, leaf = re.findall(r"the last leaf with it is (\d+): (.+)", str(caught.value))[0]
    assert leaf.encode() == checks.market.leaves[int(index)]
    assert json.loads(leaf)["node_id"] == cheap.node_id


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"account": "acct_0"}, rf"account of req_\w+: is acct_0, expected {ACCOUNT}"),
        ({"completion_tokens": 101}, r"completion_tokens of req_\w+: is 101, at most 100"),
        ({"payment_amount": "1.000000 USDC"}, r"payment of req_\w+: is 1000000, at most \d+"),
        ({"outcome": "failed"}, r"node_\w+ is paid \d+ for req_\w+, which failed"),
        ({"node_proof": "sha256:0"}, r"node_\w+ is paid \d+ for req_\w+: the award of its proof: is None, expected s"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_receipt_is_named_with_its_leaf(
    settled: tuple[Checks, list[Any]], change: dict[str, Any], said: str
) -> None:
    checks, effects = settled
    (appended,) = (one for one in effects if isinstance(one, link.LeafAppended))
    wrong = json.dumps({**json.loads(appended.leaf), **change}).encode()
    with pytest.raises(AssertionError, match=f"^leaf {appended.index}: {said}"):
        checks.after([link.LeafAppended(appended.index, wrong)], 0, {})


def test_a_payment_without_acceptance_is_named(settled: tuple[Checks, list[Any]]) -> None:
    checks, effects = settled
    (work,) = checks.open.values()
    work.stage = 0
    with pytest.raises(AssertionError, match=r"^leaf \d: node_\w+ is paid \d+ for req_\w+ without an acceptance"):
        checks.after(effects, 0, {})


def test_a_leaf_that_contradicts_the_others_is_shown(checks: Checks) -> None:
    again = json.loads(checks.market.leaves[-1])
    again["log"]["index"] += 1
    checks.market.leaves.append(json.dumps(again).encode())
    with pytest.raises(Contradiction, match="a second time") as caught:
        checks.whole()
    assert caught.value.__notes__ == [f"leaf {again['log']['index']}: {json.dumps(again)}"]
