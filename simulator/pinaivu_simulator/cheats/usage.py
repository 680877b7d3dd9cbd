"""Cheats about how much was generated: the claim is signed, the answer is not what it says."""

from collections import Counter
from typing import ClassVar

import msgspec

from pinaivu_node.assembly import Assembly
from pinaivu_shared.canonical import decode
from pinaivu_shared.configuration import MeteringLimits
from pinaivu_shared.terms import PROMPT_TOKENS_PER_BYTE_MAX, Award, Proof
from pinaivu_shared.wire.node import Delta, FromNode, Prove
from pinaivu_simulator.cheats.cheat import Cheat, Means
from pinaivu_simulator.cheats.wire import Wire


class Case(msgspec.Struct, frozen=True):
    """A job that was answered: its award, the market's limits, the bytes of its answer, what an honest node claims."""

    award: Award
    limits: MeteringLimits
    delivered_bytes: int
    honest: Proof


class Inflation(Cheat):
    """Answers honestly and claims other token counts."""

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._delivered_bytes = Counter[str]()

    async def send(self, message: FromNode, wire: Wire) -> None:
        """Count what is delivered; change what is claimed for it."""
        if isinstance(message, Delta):
            self._delivered_bytes[message.request_id] += len(message.content.encode())
        if isinstance(message, Prove):
            message = self._inflated(message)
        await wire.send(message)

    def claim(self, case: Case) -> tuple[int, int]:
        """Prompt and completion tokens to claim."""
        raise NotImplementedError

    def _inflated(self, message: Prove) -> Prove:
        assert self.market is not None
        case = Case(
            award=self.award(message.request_id),
            limits=self.market.configuration.metering,
            delivered_bytes=self._delivered_bytes.pop(message.request_id, 0),
            honest=decode(message.proof.payload, Proof, check="proof"),
        )
        prompt, completion = self.claim(case)
        self.tell("cheated", message.request_id, claimed=[prompt, completion], delivered_bytes=case.delivered_bytes)
        return self.changed_proof(message, prompt_tokens=prompt, completion_tokens=completion)


class BeyondAward(Inflation):
    """Absurd: no answer under this award can have so many."""

    sentence: ClassVar[str] = "claims more completion tokens than its award allows at all"

    def claim(self, case: Case) -> tuple[int, int]:
        """One token above the limit and its allowance."""
        return case.honest.prompt_tokens, case.award.max_completion_tokens + case.limits.completion_allowance + 1


class BeyondRequest(Inflation):
    """A chat template may add so many, so it is no offence; it is not paid either."""

    sentence: ClassVar[str] = "claims more prompt tokens than the request has bytes"

    def claim(self, case: Case) -> tuple[int, int]:
        """One token above the bytes and their allowance."""
        return case.award.request_bytes + case.limits.template_allowance + 1, case.honest.completion_tokens


class FarBeyondRequest(Inflation):
    """Absurd: no template adds so many."""

    sentence: ClassVar[str] = "claims more prompt tokens than any template could make of the request"

    def claim(self, case: Case) -> tuple[int, int]:
        """One token above what is no offence."""
        most = PROMPT_TOKENS_PER_BYTE_MAX * (case.award.request_bytes + case.limits.template_allowance)
        return most + 1, case.honest.completion_tokens


class BeyondDelivery(Inflation):
    """Possible under the award, impossible for what was delivered."""

    sentence: ClassVar[str] = "claims every completion token that its award allows, and delivers a few words"

    def claim(self, case: Case) -> tuple[int, int]:
        """All that the award allows."""
        return case.honest.prompt_tokens, case.award.max_completion_tokens


class WithinDelivery(Inflation):
    """The most that bytes alone cannot disprove; only a recount can."""

    sentence: ClassVar[str] = "claims as many tokens as the bytes of request and answer could be at most"

    def claim(self, case: Case) -> tuple[int, int]:
        """Exactly the bounds."""
        bound = case.delivered_bytes + case.limits.completion_allowance
        return case.award.max_prompt_tokens, min(case.award.max_completion_tokens, bound)


class EmptyAnswer(Cheat):
    """Delivers the end of an answer without the answer, and claims the tokens of the whole."""

    sentence: ClassVar[str] = "delivers nothing but the end of an answer, and bills the whole of it"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """Keep the content; commit to an empty answer, so that delivery and proof agree."""
        match message:
            case Delta(finish_reason=""):
                return
            case Prove(request_id=request_id):
                empty = Assembly()
                empty.add(Delta(request_id, finish_reason="stop"))
                commitment = empty.commitment(self.salt(request_id))
                claimed = self.award(request_id).max_completion_tokens
                message = self.changed_proof(message, response_commitment=commitment, completion_tokens=claimed)
                self.tell("cheated", request_id)
            case _:
                pass
        await wire.send(message)
