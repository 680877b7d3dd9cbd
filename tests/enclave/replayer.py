"""An independent replayer: from raw leaves to every balance and every node's standing, with no code of Pinaivu's.

Written from DESIGN section 4 and the docstrings of `pinaivu_shared.ledger` and `.quality`, with the standard library
alone. Where leaves contradict each other, or a receipt its transcript, it raises Contradiction.
"""

import json
import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.enclave.rule_again import Contradiction, Json, check_transcript, expect

NO_FAULT = {
    *("client_disconnected", "client_stalled", "shutting_down", "host_restarted", "deadline", "abandoned"),
    *("coordinator_unavailable", "not_accepted", "nothing_delivered", "context_length_exceeded", "unsupported_request"),
    "stopped_at_once",
}


@dataclass
class Standing:
    """A node as the log has it."""

    quality: int
    slots: int
    suspended_until: int = 0
    offences: int = 0


@dataclass
class Replayer:
    """Takes leaves one by one; `transcripts` by digest are optional, and looked at where they are there."""

    transcripts: Mapping[str, bytes] = field(default_factory=dict)
    size: int = 0
    balances: Counter[str] = field(default_factory=Counter)
    standings: dict[str, Standing] = field(default_factory=dict)
    averages: dict[str, int] = field(default_factory=dict)
    paid_out: Counter[str] = field(default_factory=Counter)
    unstated: defaultdict[str, deque[tuple[int, int]]] = field(default_factory=lambda: defaultdict(deque))
    statements: Counter[str] = field(default_factory=Counter)
    terms: Json = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    first_tokens: dict[str, deque[int]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=63)))
    speeds: dict[str, deque[int]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=63)))

    def take(self, raw: bytes) -> Json:
        """One more leaf."""
        leaf: Json = json.loads(raw)
        kind = leaf.get("type", "receipt")
        expect(leaf.get("index", leaf.get("log", {}).get("index")), self.size, "index")
        {"receipt": self.receipt, "order": self.order, "statement": self.statement, "suspension": self.suspension}.get(
            kind, lambda _: None
        )(leaf)
        self.terms = leaf["configuration"] if kind == "configuration" else self.terms
        self.size += 1
        return leaf

    def move(self, debit: str, credit: str, amount: int) -> None:
        self.balances[debit] -= amount
        self.balances[credit] += amount
        if debit.startswith(("customer:", "node:", "payable:")) and self.balances[debit] < 0:
            raise Contradiction(f"leaf {self.size}: {debit} would have {self.balances[debit]}")

    def receipt(self, leaf: Json) -> None:
        auction, node = leaf["auction"], leaf["node_id"]
        tokens = leaf["prompt_tokens"] * auction["input_price"] + leaf["completion_tokens"] * auction["output_price"]
        payment, charge = micro(leaf["payment_amount"]), micro(leaf["charge_amount"])
        expect(payment, up(tokens, 10**6), "payment")
        expect(charge, payment + up(payment * self.terms["fee_bps"], 10**4), "charge")
        self.once(leaf["request_id"])
        self.move("customer:" + leaf["account"], "node:" + node, payment)
        self.move("customer:" + leaf["account"], "fees", charge - payment)
        if payment:
            self.unstated[node].append((self.size, payment))
        for failed in leaf["failed_attempts"]:
            possible = failed["reason"] == "unsupported_request" and paid_tokens(leaf)
            self.judge(failed["node_id"], 0 if failed["reason"] not in NO_FAULT or possible else None)
        self.judge(node, self.sample(leaf))
        if leaf["outcome"] == "completed" and (count := leaf["completion_tokens"]):
            average = self.averages.get(leaf["model"], 16 * count)
            self.averages[leaf["model"]] = average - average // 16 + count
        if transcript := self.transcripts.get(auction["transcript"]):
            check_transcript(leaf, transcript)

    def order(self, leaf: Json) -> None:
        order = leaf["order"]
        self.once("order " + order["reference"])
        if order["type"] == "deposit":
            self.move(order["fund"], "customer:" + order["account"], order["amount"])
        else:
            self.move("payable:" + order["node_id"], "payouts", order["amount"])
            self.paid_out[order["node_id"]] += order["amount"]

    def statement(self, leaf: Json) -> None:
        node, waiting = leaf["node_id"], self.unstated[leaf["node_id"]]
        self.statements[node] += 1
        stated = [waiting.popleft() for _ in leaf["receipts"]]
        expect(leaf["receipts"], [index for index, _ in stated], "receipts of the statement")
        expect(leaf["amount"], sum(amount for _, amount in stated), "sum of the statement")
        expect(leaf["number"], self.statements[node], "number of the statement")
        self.move("node:" + node, "payable:" + node, leaf["amount"])
        expect(leaf["payable"], self.balances["payable:" + node], "payable")

    def suspension(self, leaf: Json) -> None:
        known, rules = self.standing(leaf["node_id"]), self.terms["nodes"]
        lasts = rules["suspension_ms"] * 2 ** min(10, known.offences)
        expect(leaf["until_ms"], max(leaf["suspended_ms"] + lasts, known.suspended_until), "end of the suspension")
        known.quality = max(1, min(known.quality, rules["prior_bps"] // 2))
        known.slots = min(known.slots, rules["probation_slots"])
        known.suspended_until, known.offences = leaf["until_ms"], known.offences + 1

    def sample(self, leaf: Json) -> int | None:
        """What the last attempt says of its node, in basis points, or nothing."""
        tokens, timing = leaf["completion_tokens"], leaf["timing"]
        model = leaf["model"] if tokens else "embeddings of " + leaf["model"]
        if not paid_tokens(leaf):
            return None if leaf["reason"] in NO_FAULT else 0
        if leaf["reason"] in {"usage_cut", "usage_recounted"}:
            return 0 if leaf["reason"] == "usage_recounted" else None
        first, speed, waited, fast = timing["first_token_ms"], 0, 10_000, 10_000
        if self.first_tokens[model]:
            waited = min(10_000, (statistics.median_low(self.first_tokens[model]) + 100) * 10_000 // (first + 100))
        self.first_tokens[model].append(first)
        if tokens >= 8:
            speed = tokens * 10**6 // (max(0, timing["duration_ms"] - first) + 100)
            if self.speeds[model]:
                fast = min(10_000, speed * 10_000 // max(1, statistics.median_low(self.speeds[model])))
            self.speeds[model].append(speed)
        return 6000 + 2000 * waited // 10_000 + 2000 * fast // 10_000

    def judge(self, node: str, sample: int | None) -> None:
        if sample is None:
            return
        known = self.standing(node)
        distance = abs(sample - known.quality)
        step = min(250, distance // 16 + bool(distance))
        known.quality = max(1, known.quality + (step if sample > known.quality else -step))
        known.slots = min(65_536, known.slots + 1) if sample else max(1, known.slots - max(1, known.slots // 8))

    def standing(self, node: str) -> Standing:
        rules = self.terms["nodes"]
        return self.standings.setdefault(node, Standing(rules["prior_bps"], rules["probation_slots"]))

    def once(self, name: str) -> None:
        if name in self.seen:
            raise Contradiction(f"leaf {self.size}: {name} a second time")
        self.seen.add(name)


def replay(leaves: Iterable[bytes], transcripts: Mapping[str, bytes]) -> Replayer:
    """Replay a whole log."""
    replayer = Replayer(transcripts)
    for leaf in leaves:
        replayer.take(leaf)
    return replayer


def paid_tokens(leaf: Json) -> int:
    """None where there was no answer to pay for."""
    return int(leaf["prompt_tokens"] + leaf["completion_tokens"])


def micro(text: str) -> int:
    return int(text.removesuffix(" USDC").replace(".", ""))


def up(number: int, divisor: int) -> int:
    return -(-number // divisor)
