"""A host that rewrites, drops, doubles and replays the frames of its link: what the enclave signs stays true.

The host may say what it likes; it is the enclave's host. So a rewritten frame may be obeyed, where it still makes
sense, or refused. What must hold either way: nobody is paid twice, nobody beyond an award, the books sum to zero, and
every leaf that was signed is accepted by the next enclave.
"""

import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from pinaivu_shared.canonical import decode
from pinaivu_shared.errors import PinaivuError
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.terms import Award
from pinaivu_shared.wire import link, link_boot

from .market import ACCOUNT, Market, Node

JOBS = 4


class RewritingHost:
    """Hands commands to a market as frames, and plays with them as `chance` has it."""

    def __init__(self, market: Market, chance: random.Random) -> None:
        self.market, self.chance = market, chance
        self.sent: list[bytes] = []
        self.awards: dict[str, list[Award]] = {}
        self.refused = 0

    def give(self, command: Any) -> Any:
        """The answer to the command, to what was made of it, or None where it got lost or was refused."""
        frame = msgspec.msgpack.encode(link.Call(len(self.sent) + 1, command))
        self.sent.append(frame)
        match self.chance.randrange(6):
            case 0:
                return None
            case 1:
                self._apply(frame)
            case 2:
                frame = self._rewritten(frame)
            case 3:
                self._apply(self.chance.choice(self.sent))
        return self._apply(frame)

    def _rewritten(self, frame: bytes) -> bytes:
        """Some bytes changed, or a part of another frame in place of one of its own."""
        changed = bytearray(frame)
        if self.chance.random() < 0.5:
            for _ in range(self.chance.randint(1, 3)):
                changed[self.chance.randrange(len(changed))] = self.chance.randrange(256)
            return bytes(changed)
        other, start = self.chance.choice(self.sent), self.chance.randrange(len(changed))
        changed[start : start + 40] = other[start : start + 40]
        return bytes(changed)

    def _apply(self, frame: bytes) -> Any:
        try:
            call = msgspec.msgpack.decode(frame, type=link.Call)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.refused += 1  # the connection would end here
            return None
        if isinstance(
            call.command,
            link_boot.Configure | link_boot.OpenVault | link_boot.Resume | link_boot.FinishResume | link.Attest,
        ):
            return None  # the shell's, and refused there while serving
        if isinstance(call.command, link.RequestChallenge | link_boot.Introduce):
            return None
        try:
            result = self.market.apply(call.command)
        except PinaivuError:
            self.refused += 1
            return None
        if isinstance(result, link.Awarded):
            award = decode(result.award.payload, Award, check="award")
            self.awards.setdefault(award.request_id, []).append(award)
        return result


def run_jobs(host: RewritingHost, nodes: list[Node]) -> None:
    for _ in range(JOBS):
        market = host.market
        market.now_ms += host.chance.randrange(2_000)
        awarded = host.give(open_job(market))
        for _attempt in range(3):
            if not isinstance(awarded, link.Awarded):
                break
            node = next(one for one in nodes if one.node_id == awarded.node_id)
            if host.chance.random() < 0.3:
                awarded = host.give(link.ReportFailure(awarded.request_id, awarded.attempt, "timeout"))
                continue
            host.give(node.accept(awarded))
            host.give(node.completed(awarded))
            host.give(node.completed(awarded, outcome="cancelled"))
            break
        host.give(link.AcknowledgeLeaves(len(market.leaves)))


def open_job(market: Market) -> link.OpenJob:
    return link.OpenJob(
        request_id=market.request_id(),
        account=ACCOUNT,
        model="pinaivu-tiny",
        request_commitment="sha256:" + "11" * 32,
        forwarded_commitment="sha256:" + "22" * 32,
        request_bytes=400,
        max_tokens=100,
        needs=("chat",),
        may_be_empty=False,
    )


@given(st.integers(0, 2**32))
@settings(max_examples=60)
def test_whatever_a_host_makes_of_the_frames_what_is_signed_stays_true(seed: int) -> None:
    market = Market()
    nodes = [
        Node(market, "cheap").register().quote(20_000, 60_000),
        Node(market, "dear").register().quote(25_000, 75_000),
    ]
    host = RewritingHost(market, random.Random(seed))
    run_jobs(host, nodes)

    receipts = market.receipts()
    assert len({one.request_id for one in receipts}) == len(receipts), "one receipt for a request"
    for receipt in receipts:
        awards = [one for one in host.awards.get(receipt.request_id, []) if one.node_id == receipt.node_id]
        paid = parse_usdc(receipt.payment_amount)
        assert paid <= max((one.payment_cap for one in awards), default=0), "never beyond an award to this very node"
    balances = market.coordinator._state.ledger.balances()
    assert sum(balances.values()) == 0
    for node in nodes:
        earned = sum(parse_usdc(one.payment_amount) for one in receipts if one.node_id == node.node_id)
        assert balances.get(f"node:{node.node_id}", 0) == earned, "paid once for each receipt"
    again = Market(stored=tuple(market.leaves), checkpoint=market.checkpoint)
    assert again.balances() == market.coordinator._state.ledger.posted()


def test_the_host_of_these_tests_does_something() -> None:
    """Over some seeds frames are refused, jobs are paid, and jobs fail: the property above is not empty."""
    refused = paid = unpaid = 0
    for seed in range(20):
        market = Market()
        nodes = [Node(market, "cheap").register().quote(), Node(market, "dear").register().quote(25_000, 75_000)]
        host = RewritingHost(market, random.Random(seed))
        run_jobs(host, nodes)
        refused += host.refused
        amounts = [parse_usdc(one.payment_amount) for one in market.receipts()]
        paid += sum(amount > 0 for amount in amounts)
        unpaid += sum(amount == 0 for amount in amounts)
    assert refused > 20
    assert paid > 10
    assert unpaid > 5
