"""A restart replays the leaves: same state, next epoch, and nothing that this log's enclaves did not sign."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from pinaivu_enclave.core.commands import IllegalCommandError
from pinaivu_shared.canonical import encode
from pinaivu_shared.configuration import parse_configuration
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.leaves import EpochLeaf, parse_leaf
from pinaivu_shared.log.checkpoint import open_checkpoint
from pinaivu_simulator.market import market_configuration

from .market import MODEL, ORIGIN, Market, Node


@pytest.fixture
def worked(market: Market) -> Market:
    """A market that settled three jobs, all leaves acknowledged."""
    node = Node(market, "a").register().quote()
    for _ in range(3):
        market.settle(market.open_job(), node)
    market.acknowledge()
    return market


def test_balances_averages_and_nodes_come_back(worked: Market) -> None:
    again = Market(stored=tuple(worked.leaves), checkpoint=worked.checkpoint)
    before, after = worked.coordinator._state, again.coordinator._state
    assert after.ledger.balances() == before.ledger.balances()
    assert after.nodes == before.nodes
    assert after.expected_completion_tokens(MODEL, 0) == before.expected_completion_tokens(MODEL, 0)


def test_a_request_id_stays_used_across_a_restart(worked: Market) -> None:
    used = worked.receipts()[-1].request_id
    again = Market(stored=tuple(worked.leaves), checkpoint=worked.checkpoint)
    assert not again.coordinator._state.is_fresh_request(used, again.now_ms)


def test_the_log_goes_on_under_the_same_checkpoint_key_in_the_next_epoch(worked: Market) -> None:
    again = Market(stored=tuple(worked.leaves), checkpoint=worked.checkpoint)
    assert again.manifest.epoch == worked.manifest.epoch + 1
    assert again.manifest.checkpoint_key == worked.manifest.checkpoint_key
    assert again.manifest.receipt_key != worked.manifest.receipt_key
    assert again.leaves[: len(worked.leaves)] == worked.leaves
    log_key = again.boot._keys.log_key(ORIGIN)  # type: ignore[union-attr]  # configured by the fixture
    head = open_checkpoint(again.checkpoint, ORIGIN, log_keys=[log_key], witnesses=(), quorum=0)
    assert head.size == len(again.leaves)


def test_the_configuration_is_a_leaf_only_where_it_changed(worked: Market) -> None:
    same = Market(stored=tuple(worked.leaves), checkpoint=worked.checkpoint)
    changed = Market(stored=tuple(worked.leaves), checkpoint=worked.checkpoint, fee_bps=100)
    assert len(same.leaves) == len(worked.leaves) + 1
    assert len(changed.leaves) == len(worked.leaves) + 2


def test_a_tail_that_no_checkpoint_covers_yet_is_kept(worked: Market) -> None:
    checkpoint = worked.checkpoint
    node = Node(worked, "a").register().quote()
    worked.settle(worked.open_job(), node)
    again = Market(stored=tuple(worked.leaves), checkpoint=checkpoint)
    assert len(again.receipts()) == 4


def edit(leaf: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    parsed = json.loads(leaf)
    change(parsed)
    return encode(parsed)


def without_fee(parsed: dict[str, Any]) -> None:
    parsed["configuration"]["fee_bps"] = 0


@pytest.mark.parametrize(
    ("tamper", "check"),
    [
        (lambda leaves: [*leaves[:-1]], "checkpoint"),
        (lambda leaves: leaves[1:], "leaf"),
        (lambda leaves: [*leaves[:-2], leaves[-1], leaves[-2]], "leaf"),
        (lambda leaves: [*leaves, leaves[-1]], "leaf"),
        (lambda leaves: [*leaves[:-1], leaves[-1] + b" "], "leaf"),
        (lambda leaves: [*leaves[:-1], edit(leaves[-1], lambda one: one.update(model="x"))], "receipt signature"),
        (lambda leaves: [leaves[0], edit(leaves[1], without_fee)], "configuration"),
        (lambda leaves: [b"garbage"], "leaf"),
        (lambda leaves: [*leaves, leaves[0]], "leaf"),
    ],
    ids=["truncated", "beheaded", "reordered", "repeated", "a space", "a field", "the fee", "garbage", "old epoch"],
)  # fmt: skip
def test_tampered_leaves_are_refused(worked: Market, tamper: Callable[[list[bytes]], list[bytes]], check: str) -> None:
    with pytest.raises(VerificationError, match=check):
        Market(stored=tuple(tamper(worked.leaves)), checkpoint=worked.checkpoint)


def test_an_epoch_attested_by_nobody_is_refused(worked: Market) -> None:
    def forge(parsed: dict[str, object]) -> None:
        document = bytearray(base64.b64decode(str(parsed["attestation"])))
        document[-1] ^= 1
        parsed["attestation"] = base64.b64encode(document).decode()

    with pytest.raises(VerificationError, match="attestation signature"):
        Market(stored=(edit(worked.leaves[0], forge),), checkpoint="")


def test_a_checkpoint_by_another_key_is_refused(worked: Market) -> None:
    with pytest.raises(VerificationError, match="checkpoint"):
        Market(
            stored=tuple(worked.leaves), checkpoint=worked.checkpoint.replace("\n5\n", "\n4\n", 1)[:-8] + "AAAAAA=\n"
        )


def test_another_configuration_cannot_follow_a_measured_one(market: Market) -> None:
    with pytest.raises(IllegalCommandError, match="measured"):
        market.boot.configure(market_configuration(ORIGIN, ["another"]))


def test_a_configuration_for_another_platform_is_refused(market: Market) -> None:
    raw = market_configuration(ORIGIN, [MODEL]).replace(b'"simulator"', b'"qemu"')
    assert parse_configuration(raw).platform == "qemu"
    with pytest.raises(VerificationError, match="platform"):
        market.boot.configure(raw)


def test_the_epoch_is_the_first_leaf(market: Market) -> None:
    first = parse_leaf(market.leaves[0])
    assert isinstance(first, EpochLeaf)
    assert first.manifest == market.manifest


def test_a_removed_receipt_cannot_be_replaced_by_a_repeated_registration(worked: Market) -> None:
    """Every leaf knows its index, so nothing can pad a gap."""
    registration = next(leaf for leaf in worked.leaves if b'"type":"registration"' in leaf)
    receipts = [index for index, leaf in enumerate(worked.leaves) if leaf.startswith(b'{"account":')]
    forged = [registration if index == receipts[0] else leaf for index, leaf in enumerate(worked.leaves)]
    with pytest.raises(VerificationError, match="says that it is leaf"):
        Market(stored=tuple(forged), checkpoint="")


def test_the_configuration_of_an_epoch_cannot_be_left_out(worked: Market) -> None:
    with pytest.raises(VerificationError, match="says that it is leaf"):
        Market(stored=(worked.leaves[0], *worked.leaves[2:]), checkpoint="")


def test_a_truncated_attestation_is_refused_like_any_other_evidence(worked: Market) -> None:
    def cut(parsed: dict[str, Any]) -> None:
        parsed["attestation"] = parsed["attestation"].rstrip("=")[:-1]

    with pytest.raises(VerificationError):
        Market(stored=(edit(worked.leaves[0], cut),), checkpoint="")


@pytest.mark.parametrize("replayed", [(0,), (0, 1), (0, 1, 0)], ids=["first", "both", "in-turn"])
def test_old_registrations_cannot_be_written_again(replayed: tuple[int, ...]) -> None:
    market = Market()
    Node(market, "a", operator="old").register()
    Node(market, "a", operator="new").register()
    registrations = [leaf for leaf in market.leaves if b'"type":"registration"' in leaf]
    assert len(registrations) == 2
    with pytest.raises(VerificationError, match="says that it is leaf"):
        Market(stored=(*market.leaves, *(registrations[index] for index in replayed)), checkpoint="")


def test_a_node_may_change_its_operator_twice_in_a_millisecond() -> None:
    market = Market()
    for operator in ("a", "b", "a"):
        Node(market, "n", operator=operator).register()
    again = Market(stored=tuple(market.leaves), checkpoint="")
    assert [node.operator[:2] for node in again.coordinator._state.nodes.values()] == ["a@"]
