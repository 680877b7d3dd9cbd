"""The world of the long run: a host that lies, nodes that cheat, accounts nearly broke, enclaves that die."""

import random
from collections import Counter, deque
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.enclave.long_run_checks import Checks, check_equal
from tests.enclave.long_run_nodes import KINDS, Actor, Answer, Work, terms
from tests.enclave.market import MODEL, ORIGIN, OTHER_MODEL, START_MS, Market, signed_order

from pinaivu_enclave.core.commands import Tick
from pinaivu_shared.errors import PinaivuError
from pinaivu_shared.ids import digest_of, make_request_id
from pinaivu_shared.terms import Capabilities, Deposit, Payout
from pinaivu_shared.wire import link, link_boot

ACCOUNTS = [f"acct_{number:032x}" for number in range(40)]
POOR = 12
"""So many accounts live from hand to mouth."""
OPEN_AT_ONCE = 50
NEEDS: list[Capabilities] = [*[("chat",)] * 6, ("chat", "tools"), ("embeddings",)]  # type: ignore[list-item]
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))
LIES = ["", "client_disconnected", "usage_absurd", "usage_recounted", "no_first_token", "made_up"]


class LongRun:
    """The world around the enclave. Every command goes through `apply`, and every one is followed by the checks."""

    def __init__(self, seed: int, jobs: int, *, crashes: int) -> None:
        self.chance, self.jobs = random.Random(seed), jobs
        self.crash_at = sorted(self.chance.sample(range(jobs // 10, jobs), crashes))
        self.epoch, self.awards, self.orders, self.instance = 1, 0, 0, 0
        self.market = Market(credit=0, **terms(1))
        self.checks = Checks(self.market)
        self.actors = {actor.node_id: actor for actor in (Actor(self.market, name, self.chance) for name in KINDS)}
        self.accounts: dict[str, str] = {}
        self.history: deque[Any] = deque(maxlen=300)
        self.conflicts: deque[tuple[Actor, link.Awarded]] = deque(maxlen=50)
        self.refusals: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.leaves: Counter[str] = Counter()
        self.commands = 0
        for node in self.actors.values():
            self.join(node)
        for account in ACCOUNTS:
            self.deposit(account)

    def apply(self, command: Any) -> Any:
        """One command and the checks after it; None where it was refused, which must have changed nothing."""
        market = self.market
        self.commands += 1
        market.now_ms += self.chance.randint(0, 8)
        before = (market.coordinator._journal.size, market.coordinator._state.ledger.transfers)
        try:
            effects = market.coordinator.apply(command, market.now_ms)
        except PinaivuError as error:
            self.refusals[error.code] += 1
            after = (market.coordinator._journal.size, market.coordinator._state.ledger.transfers)
            check_equal(f"leaves and transfers after {type(command).__name__} was refused ({error})", after, before)
            self.checks.balances()
            return None
        market._keep(effects)
        for leaf in self.checks.after(effects, before[0], self.accounts):
            self.leaves[leaf.get("type", "receipt")] += 1
            self.reasons[leaf.get("reason", "")] += 1
        return effects[-1] if effects else None

    def told(self, command: Any) -> Any:
        """Apply a command that the host may send once more some time later."""
        self.history.append(command)
        return self.apply(command)

    def run(self) -> None:
        """All of it."""
        steps = {
            self.open_job: 35, self.advance: 75, self.lie: 4, self.repeat: 4, self.acknowledge: 2, self.time_passes: 2,
            self.quote: 2, self.order: 2, self.late_proof: 2, self.report: 1, self.come_or_go: 0.3, self.reconnect: 0.3,
            self.other_host: 0.05,
        }  # fmt: skip
        step, weights = list(steps), list(steps.values())
        while self.awards < self.jobs:
            for chosen in self.chance.choices(step, weights, k=50):
                chosen()
            if self.crash_at and self.awards >= self.crash_at[0]:
                self.crash_at.pop(0)
                self.crash()
        self.end()

    def open_job(self) -> None:
        if len(self.checks.open) >= OPEN_AT_ONCE and self.chance.random() < 0.8:
            return
        account = self.chance.choice(ACCOUNTS)
        request_id = make_request_id(self.market.now_ms, self.chance.randbytes(10))
        self.accounts[request_id] = account
        opened = link.OpenJob(
            request_id=request_id,
            account=account,
            model=self.chance.choice([MODEL, MODEL, OTHER_MODEL]),
            request_commitment=digest_of(request_id.encode()),
            forwarded_commitment=digest_of(b"forwarded"),
            request_bytes=self.chance.choice([*[1, 40, 400, 4_000, 20_000] * 6, 100_000]),
            max_tokens=self.chance.choice([0, 1, 20, 200]),
            needs=self.chance.choice(NEEDS),
            may_be_empty=self.chance.random() < 0.3,
        )
        answer = self.told(opened)
        if isinstance(answer, link.Awarded):
            self.awards += 1
        elif answer is not None:
            self.refusals[answer.reason] += 1
            del self.accounts[request_id]
            self.history.pop()

    def advance(self) -> None:
        """Take one open job a step further, as its node would have it."""
        work = self.some_work()
        if work is None or work.dropped:
            return
        work.dropped = self.chance.random() < 0.003
        node, fate, request_id = self.actors[work.award.node_id], self.chance.random(), work.award.request_id
        if work.stage == 2:
            self.settle(work, node.answer(work))
        elif node.kind == "stalling" and fate < 0.2:
            self.told(link.ReportFailure(request_id, work.award.attempt, "no_first_token"))
        elif node.kind == "disconnecting" and fate < 0.1:
            self.apply(link.EndSession(node.session))
            self.told(link.ReportFailure(request_id, work.award.attempt, "node_disconnected"))
        elif fate < 0.01:
            self.told(link.ReportFailure(request_id, work.award.attempt, self.chance.choice(["busy", *LIES])))
        elif work.stage == 0:
            work.stage = int(self.told(node.accept(work.awarded)) is not None)
        else:
            self.told(link.ReportFirstToken(request_id, work.award.attempt))
            work.stage = 2

    def settle(self, work: Work, answer: Answer, **lies: Any) -> None:
        """What the host says at the end of a job, truly but for `lies`."""
        request_id = work.award.request_id
        gone = self.chance.random() < 0.05
        seen = answer.delivered_bytes // 2 if gone else answer.delivered_bytes
        settle = link.SettleJob(
            request_id,
            "cancelled" if gone else "completed",
            "client_disconnected" if gone else "",
            link.Delivery(seen, answer.commitment, self.chance.choice([None, answer.tokens])),
            answer.proof,
        )
        settle = msgspec.structs.replace(settle, **lies)
        self.checks.told(settle)
        self.told(settle)
        node = self.actors[work.award.node_id]
        if node.kind == "conflicting":
            self.conflicts.append((node, work.awarded))

    def lie(self) -> None:
        """The host invents deliveries and failures, changes commitments, and takes one node's word for another's."""
        work = self.some_work()
        if work is None:
            return
        node, thief = self.actors[work.award.node_id], self.chance.choice(list(self.actors.values()))
        answer, request_id = node.answer(work), work.award.request_id
        match self.chance.randrange(8):
            case 0:
                self.settle(work, answer, delivery=link.Delivery(2**40, answer.commitment))
            case 1:
                self.settle(work, answer, delivery=link.Delivery(99, digest_of(b"another answer")))
            case 2:
                self.settle(work, answer, outcome="failed", reason=self.chance.choice(LIES))
            case 3:
                self.settle(work, answer, reason=self.chance.choice(LIES), proof=None)
            case 4:
                self.settle(work, answer, proof=thief.proof(work.awarded))
            case 5:
                self.apply(thief.accept(work.awarded))
                work.stage = max(work.stage, int(thief is node and work.stage == 0))
            case 6:
                self.told(link.ReportFailure(request_id, self.chance.randint(1, 3), self.chance.choice(LIES)))
            case _:
                self.settle(work, answer, delivery=link.Delivery(500, answer.commitment, 0))

    def some_work(self) -> Work | None:
        return self.chance.choice(list(self.checks.open.values())) if self.checks.open else None

    def repeat(self) -> None:
        """Something is sent a second time, late and out of order."""
        if self.history:
            self.apply(self.chance.choice(self.history))

    def late_proof(self) -> None:
        """Proofs after the settlement: the same again from an honest node, another from one that contradicts itself."""
        if self.conflicts and self.chance.random() < 0.1:
            node, awarded = self.conflicts.popleft()
            self.told(link.ReportProof(awarded.request_id, node.proof(awarded, reason="another")))
        settled = [one for one in self.history if isinstance(one, link.SettleJob) and one.proof]
        if settled:
            again = self.chance.choice(settled)
            self.apply(link.ReportProof(again.request_id, again.proof))  # type: ignore[arg-type]  # it has one

    def acknowledge(self) -> None:
        """Storage lags behind; what it holds for good goes to the replayer."""
        journal = self.market.coordinator._journal
        self.apply(link.AcknowledgeLeaves(self.chance.randint(journal.durable, journal.size + 3)))
        self.checks.replay(journal.durable)

    def time_passes(self) -> None:
        self.market.now_ms += self.chance.randint(0, 300)
        self.apply(Tick())

    def quote(self) -> None:
        """Prices change while jobs run; some quotes are of another session, or withdrawn and then sent again."""
        node, other = self.chance.sample(list(self.actors.values()), 2)
        if node.kind != "flapping" and self.chance.random() < 0.5:
            return
        for offer in node.offers():
            stolen = self.chance.random() < 0.05
            self.told(msgspec.structs.replace(offer, session=other.session) if stolen else offer)
        if node.kind == "flapping" and self.chance.random() < 0.2:
            self.apply(link.WithdrawQuotes(node.session, self.chance.choice(["", MODEL])))

    def report(self) -> None:
        self.apply(link.ReadNodeReport(self.chance.choice(list(self.actors.values())).session))

    def order(self) -> None:
        """Money comes in and goes out; some orders are a stranger's, or pay out what nobody has."""
        self.deposit(self.chance.choice(ACCOUNTS))
        node = self.chance.choice(list(self.actors))
        payable = self.market.balances().get(f"payable:{node}", 0)
        self.orders += 1
        amount = max(1, self.chance.randint(0, payable + payable // 8 + 1))
        reference = f"payout-{self.orders // 2 * 2}"
        self.told(signed_order(Payout(origin=ORIGIN, reference=reference, node_id=node, amount=amount)))

    def deposit(self, account: str) -> None:
        self.orders += 1
        order = Deposit(
            origin=ORIGIN,
            reference=f"deposit-{self.orders}",
            account=account,
            amount=self.chance.randint(1, 60 if account in ACCOUNTS[:POOR] else 20_000),
            fund=self.chance.choice(["deposits", "deposits", "promotions"]),
        )
        if self.chance.random() < 0.1:
            self.apply(signed_order(order, STRANGER))
        self.told(signed_order(order))

    def join(self, node: Actor) -> None:
        node.market = self.market
        node.connect(self.apply)
        for offer in node.offers():
            self.told(offer)

    def come_or_go(self) -> None:
        """A node leaves, or comes back with its key in a new session; the older one ends."""
        node = self.chance.choice(list(self.actors.values()))
        if self.chance.random() < 0.3:
            self.apply(link.EndSession(node.session))
        else:
            self.join(node)

    def reconnect(self) -> None:
        """The same host again, after its link broke: unacknowledged leaves come once more."""
        self.apply(link_boot.Introduce(f"{self.instance:032x}", link.LINK_PROTOCOL))

    def other_host(self) -> None:
        self.instance += 1
        self.reconnect()
        for node in self.actors.values():
            self.join(node)

    def crash(self) -> None:
        """The enclave dies with its awards; of what was not acknowledged, the host kept some, or nothing, or all."""
        journal, old = self.market.coordinator._journal, self.market
        kept = self.chance.randint(journal.durable, journal.size)
        self.epoch, self.instance = self.epoch + 1, 0
        self.market = Market(
            stored=tuple(old.leaves[:kept]),
            checkpoint=old.checkpoint,
            credit=0,
            now_ms=old.now_ms + self.chance.randint(0, 60_000),
            **terms(self.epoch),
        )
        self.checks.restart(self.market)
        self.checks.whole()
        self.history.clear()
        self.conflicts.clear()
        for node in self.actors.values():
            self.join(node)

    def end(self) -> None:
        """Nobody settles what is left: it ends by its deadline. Then the whole log is held against the core."""
        for _ in range(40):
            self.market.now_ms += 10_000
            self.apply(Tick())
            self.apply(link.AcknowledgeLeaves(len(self.market.leaves)))
        check_equal("jobs still open at the end", list(self.checks.open), [])
        assert self.market.now_ms > START_MS
        self.checks.whole()
