"""How many tokens an award allows: bounded by request, context, the caller's own limit and the account's credit."""

from typing import Final

import msgspec

from pinaivu_shared.money import TOKENS_PER_PRICE, MicroUsdc, amount_owed
from pinaivu_shared.terms import TOKEN_COUNT_MAX
from pinaivu_shared.wire.link import OpenJob

BYTES_PER_TOKEN: Final = 4
"""Rough length of a token in UTF-8 bytes of the request, for estimates only; nothing is billed by it."""
BYTES_PER_TOKEN_MIN: Final = 2
"""Prompts are seldom denser: what this leaves of the context is safe to allow where the caller names no limit."""
BYTES_PER_TOKEN_MAX: Final = 8
"""A prompt this sparse hardly exists: a request whose bytes over this exceed the context certainly does not fit."""


class TokenLimits(msgspec.Struct, frozen=True):
    """What a node may be paid for at most, in tokens. `shortened`: by the account's credit, the answer."""

    prompt: int
    completion: int
    shortened: bool = False


class Prices(msgspec.Struct, frozen=True):
    """Clearing prices in micro-USDC per million tokens."""

    input_price: int
    output_price: int

    def cap(self, limits: TokenLimits) -> MicroUsdc:
        """The most that an award with these limits can pay."""
        return amount_owed(
            input_price=self.input_price,
            prompt_tokens=limits.prompt,
            output_price=self.output_price,
            completion_tokens=limits.completion,
        )


def generates(request: OpenJob) -> bool:
    """Whether the answer has completion tokens; embeddings have none."""
    return "embeddings" not in request.needs


def estimated_completion_tokens(request: OpenJob, average: int) -> int:
    """What the auction takes the answer to be, where answers of this model have `average` tokens."""
    return min(request.max_tokens or average, average) if generates(request) else 0


def estimated_prompt_tokens(request: OpenJob) -> int:
    """What the auction takes the prompt to be."""
    return max(1, request.request_bytes // BYTES_PER_TOKEN)


def least_prompt_tokens(request: OpenJob) -> int:
    """What the prompt has at least: contexts below this certainly do not hold it.

    Nothing is certain of embeddings, each of whose inputs has a context to itself.
    """
    return request.request_bytes // BYTES_PER_TOKEN_MAX if generates(request) else 0


def full_limits(request: OpenJob, *, context_length: int, template_allowance: int) -> TokenLimits:
    """Limits where credit does not matter; some engines refuse a prompt and a limit that together exceed a context."""
    if not generates(request):
        return TokenLimits(min(request.request_bytes + template_allowance, TOKEN_COUNT_MAX), 0)
    most = context_length - least_prompt_tokens(request)
    safe = context_length - request.request_bytes // BYTES_PER_TOKEN_MIN
    prompt = min(request.request_bytes + template_allowance, context_length)
    return TokenLimits(prompt, min(request.max_tokens or (safe if safe > 0 else most), most))


def limits_within(
    full: TokenLimits, request: OpenJob, prices: Prices, cap: int, *, expected: int
) -> TokenLimits | None:
    """The limits that `cap` micro-USDC still pay for, for an account that has no more; None for not even one token.

    First comes what the auction took the job for (the prompt, then `expected` completion tokens), then all that the
    prompt may have, then a longer answer: so a job as long as others is served for what they cost. An answer is cut
    before it begins, where its caller sees it by the finish_reason, and its node before it accepts. For embeddings it
    is the prompt alone, and None where not even the expected one is paid for.
    """
    budget = cap * TOKENS_PER_PRICE
    prompt = min(full.prompt, estimated_prompt_tokens(request))
    if not generates(request):
        affordable = budget // prices.input_price
        return TokenLimits(min(full.prompt, affordable), 0) if affordable >= prompt else None
    completion = min(full.completion, expected, (budget - prices.input_price * prompt) // prices.output_price)
    if completion < 1:
        return None
    prompt = min(full.prompt, (budget - prices.output_price * completion) // prices.input_price)
    completion = min(full.completion, (budget - prices.input_price * prompt) // prices.output_price)
    return TokenLimits(prompt, completion, shortened=completion < full.completion)
