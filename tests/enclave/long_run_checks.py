"""What must hold in the long run, after every command and over the whole log."""

import json
from collections.abc import Sequence
from typing import Any

from tests.enclave.replayer import Replayer, micro
from tests.enclave.rule_again import Json

from pinaivu_shared.ids import digest_of
from pinaivu_shared.wire import link

from .long_run_nodes import Work, work_of
from .market import Market


class Checks:
    """Follows open awards by what was signed, and hands durable leaves to the replayer."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.open: dict[str, Work] = {}
        self.held = 0
        self.delivered: dict[str, int] = {}
        self.proofs: dict[str, str] = {}
        self.running: dict[str, int] = {}
        self.transcripts: dict[str, bytes] = {}
        self.replayer = Replayer(self.transcripts)

    def after(self, effects: Sequence[object], size_before: int, accounts: dict[str, str]) -> list[Json]:
        """Take what a command gave into account, then look at every balance; the new leaves."""
        leaves = []
        for effect in effects:
            if isinstance(effect, link.LeafAppended) and effect.index >= size_before:
                leaves.append(json.loads(effect.leaf))
                if "request_commitment" in leaves[-1]:
                    self._settled(leaves[-1])
                if leaves[-1].get("type") == "statement":
                    durable = self.market.coordinator._journal.durable
                    assert max(leaves[-1]["receipts"]) < durable, "a receipt is stated that no checkpoint covers"
            if isinstance(effect, link.Awarded):
                self._awarded(effect, accounts[effect.request_id])
        self.balances()
        return leaves

    def balances(self) -> None:
        """All accounts sum to zero, nobody owes, and what is held is what open awards may cost."""
        found = self.market.balances()
        assert sum(found.values()) == 0
        assert all(amount >= 0 for name, amount in found.items() if name not in {"deposits", "promotions"}), found
        assert found.get("hold", 0) == self.held

    def told(self, settle: link.SettleJob) -> None:
        """What the host is about to say of a delivery, with which proof."""
        self.delivered[settle.request_id] = settle.delivery.delivered_bytes
        if settle.proof:
            self.proofs[digest_of(settle.proof.payload)] = json.loads(settle.proof.payload)["award"]

    def _cost(self, work: Work) -> int:
        cap = work.award.payment_cap
        return cap - -cap * self.market.configuration.fee_bps // 10_000

    def _awarded(self, awarded: link.Awarded, account: str) -> None:
        work, state = work_of(awarded, account), self.market.coordinator._state
        self._close(awarded.request_id)
        self.open[awarded.request_id] = work
        self.held += self._cost(work)
        self.running[awarded.node_id] = self.running.get(awarded.node_id, 0) + 1
        self.transcripts[work.award.transcript] = awarded.transcript
        standing = state.quality.standing(awarded.node_id, state.terms)
        assert standing.suspended_until_ms <= self.market.now_ms, "a suspended node won"
        assert self.running[awarded.node_id] <= standing.slots, "more jobs than the node may run"

    def _close(self, request_id: str) -> Work | None:
        work = self.open.pop(request_id, None)
        if work is not None:
            self.held -= self._cost(work)
            self.running[work.award.node_id] -= 1
        return work

    def _settled(self, receipt: Json) -> None:
        work = self._close(receipt["request_id"])
        assert work is not None, "a receipt for a job that is not open"
        award, auction = work.award, receipt["auction"]
        said = [receipt[name] for name in ("request_id", "account", "node_id", "model", "request_commitment")]
        assert said == [award.request_id, work.account, award.node_id, award.model, award.request_commitment]
        prices = (auction["input_price"], auction["output_price"], auction["transcript"])
        assert prices == (award.input_price, award.output_price, award.transcript)
        assert award.transcript == digest_of(work.awarded.transcript)
        assert receipt["prompt_tokens"] <= award.max_prompt_tokens
        assert receipt["completion_tokens"] <= award.max_completion_tokens
        payment = micro(receipt["payment_amount"])
        assert payment <= award.payment_cap
        if payment:
            assert work.stage, "paid without an acceptance"
            proven = self.proofs.get(receipt["node_proof"])
            assert proven == digest_of(work.awarded.award.payload), "paid without a proof for this very award"
            assert receipt["outcome"] != "failed"
            allowance = self.market.configuration.metering.completion_allowance
            assert receipt["completion_tokens"] <= self.delivered[award.request_id] + allowance

    def replay(self, size: int) -> None:
        """Hand the leaves below `size` to the replayer, and forget their transcripts."""
        for raw in self.market.leaves[self.replayer.size : size]:
            leaf = self.replayer.take(raw)
            if "auction" in leaf:
                self.transcripts.pop(leaf["auction"]["transcript"], None)
                self.delivered.pop(leaf["request_id"], None)
                self.proofs.pop(leaf["node_proof"], None)

    def restart(self, market: Market) -> None:
        """The enclave died with its awards; another stands on the leaves that were kept."""
        self.market = market
        self.open, self.held, self.running = {}, 0, {}
        self.replay(len(market.leaves))
        self.transcripts.clear()

    def whole(self) -> None:
        """The replayer knows every leaf and has the very numbers of the core."""
        state, replayer = self.market.coordinator._state, self.replayer
        self.replay(len(self.market.leaves))
        assert nonzero(state.ledger.posted()) == nonzero(dict(replayer.balances))
        standings = {
            node: (one.quality_bps, one.slots, one.suspended_until_ms, one.offences)
            for node, one in state.quality._standings.items()
        }
        assert standings == {
            node: (one.quality, one.slots, one.suspended_until, one.offences)
            for node, one in replayer.standings.items()
        }
        assert state._averages == replayer.averages
        assert nonzero(state.paid_out) == nonzero(dict(replayer.paid_out))
        waiting = {
            node: [(one.index, one.amount) for one in account.waiting]
            for node, account in state.unstated._accounts.items()
        }
        assert nonzero(waiting) == nonzero({node: list(queue) for node, queue in replayer.unstated.items()})


def nonzero(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value}
