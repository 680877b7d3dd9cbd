"""What a request may use and cost at most, before anybody knows what it does: pure arithmetic."""

from dataclasses import dataclass
from typing import Final

from pinaivu_shared.configuration import Configuration, ModelTerms
from pinaivu_shared.money import TOKENS_PER_PRICE, amount_owed, charge_on, payment_within
from pinaivu_shared.wire.link import OpenJob

BYTES_PER_TOKEN: Final = 4
"""Of a prompt, for tokens a minute; a budget counts on a token for each byte, as an award does."""
UNNAMED_ANSWER_TOKENS_MAX: Final = 4096
"""What is reserved for an answer whose caller names no limit; where the key has a budget it is also its limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Prices are list prices, in micro-USDC per million tokens. `max_tokens` 0 is no limit, or no answer in tokens.

    `expected_tokens` is what an answer is taken to have where the caller named no limit, None where he did.
    """

    request_bytes: int
    prompt_tokens: int
    max_tokens: int
    expected_tokens: int | None
    input_price: int
    output_price: int
    fee_bps: int

    @classmethod
    def of(cls, command: OpenJob, terms: ModelTerms, configuration: Configuration, *, bounded: bool) -> "Reservation":
        """For this job; `bounded` gives its answer a limit if it has none."""
        generates, named = "embeddings" not in command.needs, command.max_tokens > 0
        return cls(
            request_bytes=command.request_bytes,
            prompt_tokens=command.request_bytes + configuration.metering.template_allowance,
            max_tokens=UNNAMED_ANSWER_TOKENS_MAX if bounded and generates and not named else command.max_tokens,
            expected_tokens=None if named else terms.expected_completion_tokens if generates else 0,
            input_price=terms.input_reserve_price,
            output_price=terms.output_reserve_price,
            fee_bps=configuration.fee_bps,
        )

    def tokens(self, max_tokens: int) -> tuple[int, int]:
        """What to take of the tokens of a minute where the answer may have so many: at least, and if they are left.

        An answer without a limit of its own is let in where as many are left as are expected, and takes more.
        """
        prompt, most = self.request_bytes // BYTES_PER_TOKEN, max_tokens
        if self.expected_tokens is None:
            return prompt + most, prompt + most
        if self.expected_tokens:
            most = min(max_tokens or UNNAMED_ANSWER_TOKENS_MAX, UNNAMED_ANSWER_TOKENS_MAX)
        return prompt + min(most, self.expected_tokens), prompt + most

    def cost_within(self, left: int) -> tuple[int, int] | None:
        """The highest charge, and for how many tokens of answer: as many as `left` micro-USDC pay for.

        None where that is none, of an answer that has tokens.
        """
        whole = self._charge(self.max_tokens)
        if whole <= left:
            return whole, self.max_tokens
        if left <= 0 or not self.max_tokens:
            return None
        prompt = self.input_price * self.prompt_tokens
        tokens = (payment_within(left, self.fee_bps) * TOKENS_PER_PRICE - prompt) // self.output_price
        return (self._charge(tokens), tokens) if tokens > 0 else None

    def _charge(self, completion_tokens: int) -> int:
        payment = amount_owed(
            input_price=self.input_price,
            prompt_tokens=self.prompt_tokens,
            output_price=self.output_price,
            completion_tokens=completion_tokens,
        )
        return charge_on(payment, self.fee_bps)
