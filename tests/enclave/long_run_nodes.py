"""The parties of the long run: nodes that are honest or cheat, and what each of them signs."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from pinaivu_enclave.core.commands import IssueChallenge
from pinaivu_shared.canonical import decode
from pinaivu_shared.ids import digest_of
from pinaivu_shared.signed import Signed
from pinaivu_shared.terms import Award
from pinaivu_shared.wire import link

from .market import MODEL, OTHER_MODEL, Market, Node

QUOTE_LIFETIME_MS = 600_000
KINDS = {
    **dict.fromkeys(("honest-0", "honest-1", "honest-2", "honest-3", "honest-4", "honest-5"), "honest"),
    **dict.fromkeys(("inflating-0", "inflating-1"), "inflating"),
    **dict.fromkeys(("stalling-0", "stalling-1"), "stalling"),
    **dict.fromkeys(("absurd-0", "absurd-1"), "absurd"),
    **dict.fromkeys(("conflicting-0", "conflicting-1"), "conflicting"),
    **dict.fromkeys(("flapping-0", "flapping-1"), "flapping"),
    "empty-0": "empty",
    "disconnecting-0": "disconnecting",
    "replaying-0": "replaying",
}
"""Nodes by name; two with equal numbers are of one operator."""


@dataclass
class Work:
    """An award in force: what the host knows of it. `stage` 0: awarded, 1: accepted, 2: its first token came."""

    awarded: link.Awarded
    account: str
    award: Award
    stage: int = 0
    dropped: bool = False


@dataclass
class Answer:
    """What a node made of a job: its proof, and the text that really came out."""

    proof: Signed
    delivered_bytes: int
    tokens: int
    commitment: str


class Actor(Node):
    """A node of a certain kind, which keeps what it signed in order to use it again."""

    def __init__(self, market: Market, name: str, chance: random.Random) -> None:
        self.kind, self.chance = KINDS[name], chance
        self.old: list[tuple[Signed, str]] = []
        self.markup = chance.randint(0, 90)
        super().__init__(market, name, operator=f"operator-{name[-1]}")

    def connect(self, apply: Callable[[Any], Any]) -> None:
        """Register in a new session."""
        issued = apply(IssueChallenge(self.public_key, self.market.random.randbytes(48)))
        self.session = issued.session
        apply(link.RegisterNode(self.session, self.registration(issued)))

    def offers(self) -> list[link.PostSealedQuote]:
        """A quote for each of its models."""
        if self.chance.random() < 0.5:
            self.markup = self.chance.randint(0, 99 if self.kind in {"honest", "flapping"} else 60)
        models = (MODEL, OTHER_MODEL)[: 1 + self.markup % 2]
        return [self._offer(model) for model in models]

    def _offer(self, model: str) -> link.PostSealedQuote:
        base = (
            4_000 if self.kind in {"absurd", "conflicting", "replaying"} else 20_000
        )  # what it costs, they mean to steal
        offer: link.PostSealedQuote = self.sealed_quote(
            base + 200 * self.markup,
            3 * base + 600 * self.markup,
            model=model,
            slots=self.chance.randint(1, 8),
            context_length=self.chance.choice([512, 2048, 8192]),
            capabilities=self.chance.choice([("chat",), ("chat", "embeddings"), ("chat", "embeddings", "tools")]),
            expires_ms=self.market.now_ms + self.chance.randint(QUOTE_LIFETIME_MS // 2, QUOTE_LIFETIME_MS),
        )
        return offer

    def answer(self, work: Work) -> Answer:
        """Run the job in the manner of its kind."""
        award, chance = work.award, self.chance
        embeds = award.max_completion_tokens == 0
        tokens = 0 if embeds else chance.randint(1, award.max_completion_tokens)
        text_bytes, commitment = 4 * tokens or 4_096, digest_of(award.request_id.encode())
        claim = {
            "prompt_tokens": min(award.max_prompt_tokens, max(1, award.request_bytes // 4)),
            "completion_tokens": tokens,
            "response_commitment": commitment,
        }
        tempted = chance.random() < 0.15
        match self.kind:
            case "inflating":
                claim["completion_tokens"] = award.max_completion_tokens
            case "absurd" if tempted:
                claim["completion_tokens"] = 1_000_000
            case "empty":
                text_bytes, tokens = 0, 0
            case "conflicting" if tempted:
                claim["outcome"] = "cancelled"
            case "stalling" if tempted:
                claim.update(prompt_tokens=0, completion_tokens=0)
        proof: Signed = self.proof(work.awarded, **claim)
        if self.kind == "replaying" and self.old and tempted:
            proof, commitment = chance.choice(self.old)  # the host is in it too
        self.old = [*self.old[-5:], (proof, commitment)]
        return Answer(proof, text_bytes, tokens, commitment)


def work_of(awarded: link.Awarded, account: str) -> Work:
    return Work(awarded, account, decode(awarded.award.payload, Award, check="award"))


def terms(epoch: int) -> dict[str, Any]:
    """What the configuration says; every second enclave is given another."""
    configuration = Market(credit=0).configuration
    replace = msgspec.structs.replace
    return {
        "fee_bps": 500 if epoch % 2 else 333,
        "quote_lifetime_ms": QUOTE_LIFETIME_MS,
        "jobs": replace(configuration.jobs, duration_ms=20_000, first_token_ms=5_000),
        "nodes": replace(
            configuration.nodes,
            prior_bps=7500 if epoch % 2 else 7000,
            probation_slots=4,
            suspension_ms=15_000,
            statement_period_ms=10_000,
        ),
    }
