"""What must hold in the long run, after every command and over the whole log."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.enclave.replayer import Replayer, micro
from tests.enclave.rule_again import Contradiction, Json

from pinaivu_shared.ids import digest_of
from pinaivu_shared.wire import link

from .long_run_nodes import Work, work_of
from .market import Market

DIFFERENCES_SHOWN = 5


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
                    stated, durable = max(leaves[-1]["receipts"]), self.market.coordinator._journal.durable
                    what = f"leaf {effect.index}: last receipt stated of {leaves[-1]['node_id']}, checkpoint covers"
                    check_at_most(what, stated, durable - 1)
            if isinstance(effect, link.Awarded):
                self._awarded(effect, accounts[effect.request_id])
        self.balances()
        return leaves

    def balances(self) -> None:
        """All accounts sum to zero, nobody owes, and what is held is what open awards may cost."""
        found = self.market.balances()
        at_command = f"after leaf {len(self.market.leaves) - 1}"
        check_equal(f"sum of all accounts {at_command}", sum(found.values()), 0)
        for name, amount in found.items():
            assert amount >= 0 or name in {"deposits", "promotions"}, f"{name} has {amount} {at_command}, at least 0"
        check_equal(f"hold {at_command}, by the awards that are open", found.get("hold", 0), self.held)

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
        job = f"{awarded.request_id} at {awarded.node_id}"
        check_at_most(f"{job}: a suspended node won, suspended", standing.suspended_until_ms, self.market.now_ms)
        check_at_most(f"{job}: more jobs than the node may run,", self.running[awarded.node_id], standing.slots)

    def _close(self, request_id: str) -> Work | None:
        work = self.open.pop(request_id, None)
        if work is not None:
            self.held -= self._cost(work)
            self.running[work.award.node_id] -= 1
        return work

    def _settled(self, receipt: Json) -> None:
        request_id, leaf = receipt["request_id"], f"leaf {receipt['log']['index']}"
        work = self._close(request_id)
        assert work is not None, f"{leaf}: a receipt for {request_id}, which is not open"
        award, auction = work.award, receipt["auction"]
        names = ("request_id", "account", "node_id", "model", "request_commitment")
        said = (award.request_id, work.account, award.node_id, award.model, award.request_commitment)
        prices = ("input_price", "output_price", "transcript")
        awarded = dict(zip(names, said, strict=True)) | {name: getattr(award, name) for name in prices}
        for name, expected in awarded.items():
            check_equal(f"{leaf}: {name} of {request_id}", {**auction, **receipt}[name], expected)
        check_equal(f"{leaf}: transcript of {request_id}", award.transcript, digest_of(work.awarded.transcript))
        for name in ("prompt_tokens", "completion_tokens"):
            check_at_most(f"{leaf}: {name} of {request_id}", receipt[name], getattr(award, "max_" + name))
        payment = micro(receipt["payment_amount"])
        check_at_most(f"{leaf}: payment of {request_id}", payment, award.payment_cap)
        if payment:
            self._paid(receipt, work, f"{leaf}: {award.node_id} is paid {payment} for {request_id}")

    def _paid(self, receipt: Json, work: Work, paid: str) -> None:
        """A payment has an acceptance, a proof for this very award, an answer, and tokens that were delivered."""
        assert work.stage, f"{paid} without an acceptance"
        proven = self.proofs.get(receipt["node_proof"])
        check_equal(f"{paid}: the award of its proof", proven, digest_of(work.awarded.award.payload))
        assert receipt["outcome"] != "failed", f"{paid}, which failed"
        allowance = self.market.configuration.metering.completion_allowance
        delivered = self.delivered[work.award.request_id]
        check_at_most(f"{paid}: tokens by what was delivered", receipt["completion_tokens"], delivered + allowance)
        check_at_most(f"{paid}: at least one byte", 1, delivered)
        if not receipt["completion_tokens"]:
            check_equal(f"{paid} without an answer: completion tokens awarded", work.award.max_completion_tokens, 0)
            check_equal(f"{paid}, embeddings: outcome", receipt["outcome"], "completed")

    def replay(self, size: int) -> None:
        """Hand the leaves below `size` to the replayer, and forget their transcripts."""
        for raw in self.market.leaves[self.replayer.size : size]:
            leaf = self._replayed(raw)
            if "auction" in leaf:
                self.transcripts.pop(leaf["auction"]["transcript"], None)
                self.delivered.pop(leaf["request_id"], None)
                self.proofs.pop(leaf["node_proof"], None)

    def _replayed(self, raw: bytes) -> Json:
        try:
            return self.replayer.take(raw)
        except Contradiction as error:
            error.add_note(f"leaf {self.replayer.size}: {raw.decode()}")
            raise

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
        self._same("micro-USDC", state.ledger.posted(), replayer.balances)
        standings = state.quality._standings.items()
        self._same(
            "quality, slots, end of suspension, offences",
            {node: (one.quality_bps, one.slots, one.suspended_until_ms, one.offences) for node, one in standings},
            {
                node: (one.quality, one.slots, one.suspended_until, one.offences)
                for node, one in replayer.standings.items()
            },
        )
        self._same("average of completion tokens", state._averages, replayer.averages)
        self._same("micro-USDC paid out", state.paid_out, replayer.paid_out)
        self._same(
            "receipts in no statement",
            {
                node: [(one.index, one.amount) for one in account.waiting]
                for node, account in state.unstated._accounts.items()
            },
            {node: list(queue) for node, queue in replayer.unstated.items()},
        )

    def _same(self, what: str, core: Mapping[str, Any], replayed: Mapping[str, Any]) -> None:
        """Name by name; nothing at all is as good as zero."""
        names = sorted({*core, *replayed})
        wrong = [name for name in names if (core.get(name) or 0) != (replayed.get(name) or 0)]
        found = [
            f"\n  {name}: the core has {core.get(name, 0)}, the leaves come to {replayed.get(name, 0)}; "
            f"{self._last_leaf_of(name)}"
            for name in wrong[:DIFFERENCES_SHOWN]
        ]
        assert not wrong, f"{what}: {len(wrong)} of {len(names)} differ" + "".join(found)

    def _last_leaf_of(self, name: str) -> str:
        """Where to begin to look: the last leaf that speaks of this node, account or model."""
        subject = name.rsplit(":", maxsplit=1)[-1].encode()
        for index in reversed(range(len(self.market.leaves))):
            if subject in self.market.leaves[index]:
                return f"the last leaf with it is {index}: {self.market.leaves[index].decode()}"
        return f"no leaf of {len(self.market.leaves)} has it by name"


def check_equal(what: str, found: object, expected: object) -> None:
    """AssertionError with both values. Outside pytest a bare `assert` says nothing."""
    assert found == expected, f"{what}: is {found}, expected {expected}"


def check_at_most(what: str, found: int, limit: int) -> None:
    """AssertionError with both values."""
    assert found <= limit, f"{what}: is {found}, at most {limit}"
