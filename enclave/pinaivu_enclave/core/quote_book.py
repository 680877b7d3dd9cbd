"""The book of standing quotes and who of it is eligible. The rule itself is `pinaivu_shared.second_score`."""

from collections.abc import Iterator

import msgspec

from pinaivu_enclave.core.commands import RefusedQuoteError
from pinaivu_enclave.core.quality_book import QualityBook
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.second_score import Bid
from pinaivu_shared.terms import Capabilities, Quote, is_canonical
from pinaivu_shared.wire.link import RefusedReason


class StandingQuote(msgspec.Struct, frozen=True):
    """A quote that stands, the digest of its signed payload, and the operator of its node."""

    quote: Quote
    digest: str
    operator: str


class Ineligible(msgspec.Struct, frozen=True):
    """Why there is no award, in the terms of `wire.link.JobRefused`."""

    reason: RefusedReason


class QuoteBook:
    """Standing quotes by model, and how many jobs each node runs, by model and in all.

    An auction looks only at its own model's quotes, so its cost does not grow with nodes that serve others.
    """

    def __init__(self, configuration: Configuration, quality: QualityBook) -> None:
        self._configuration, self._quality = configuration, quality
        self._quotes: dict[str, dict[str, StandingQuote]] = {terms.model: {} for terms in configuration.models}
        self._running: dict[tuple[str, str], int] = {}
        self._running_in_all: dict[str, int] = {}
        self._sequences: dict[str, int] = {}

    def post(self, standing: StandingQuote, now_ms: int) -> None:
        """Let a quote stand in place of the node's former one for this model, or raise RefusedQuoteError."""
        quote = standing.quote
        terms = self._configuration.model(quote.model)
        if terms is None:
            raise RefusedQuoteError(f"the market does not list {quote.model}")
        if quote.input_price > terms.input_reserve_price or quote.output_price > terms.output_reserve_price:
            raise RefusedQuoteError("a price is above the reserve price")
        if not is_canonical(quote.capabilities):
            raise RefusedQuoteError("its capabilities are not sorted, or name one twice")
        if not now_ms < quote.expires_ms <= now_ms + self._configuration.quote_lifetime_ms:
            raise RefusedQuoteError(f"a quote lives at most {self._configuration.quote_lifetime_ms} ms")
        if quote.sequence <= self._sequences.get(quote.session, -1):
            raise RefusedQuoteError("an older or repeated sequence number")
        self._sequences[quote.session] = quote.sequence
        self._quotes[quote.model][quote.node_id] = standing

    def withdraw(self, node_id: str, model: str) -> None:
        """Take the node's quote for `model` away, or all its quotes when `model` is empty."""
        for name, quotes in self._quotes.items():
            if model in {"", name}:
                quotes.pop(node_id, None)

    def forget_session(self, session: str) -> None:
        """Take away what the session quoted, and its sequence."""
        self._sequences.pop(session, None)
        for quotes in self._quotes.values():
            for node_id in [one.quote.node_id for one in quotes.values() if one.quote.session == session]:
                del quotes[node_id]

    def eligible(
        self, model: str, *, needs: Capabilities, prompt_tokens: int, excluded: frozenset[str], now_ms: int
    ) -> list[StandingQuote] | Ineligible:
        """Quotes for the model that are unexpired, not excluded, can do it, hold the prompt and have a free slot.

        A suspended node is not there; one has as many slots as its quote says, and over all its models no more than
        its standing allows.
        """
        terms = self._configuration.nodes
        current = (
            (one, self._quality.standing(one.quote.node_id, terms))
            for one in self._quotes[model].values()
            if one.quote.expires_ms > now_ms and one.quote.node_id not in excluded
        )
        present = [(one, node) for one, node in current if node.suspended_until_ms <= now_ms]
        if not present:
            return Ineligible("no_node")
        able = [(one, node) for one, node in present if set(needs).issubset(one.quote.capabilities)]
        if not able:
            return Ineligible("no_capable_node")
        bound = self._context_length_max(model)
        fitting = [(one, node) for one, node in able if min(one.quote.context_length, bound) > prompt_tokens]
        if not fitting:
            return Ineligible("context_length_exceeded")
        free = [one for one, node in fitting if self._has_free_slot(one.quote, allowed=node.slots)]
        return free or Ineligible("no_free_slot")

    def quotes_of(self, node_id: str) -> Iterator[Quote]:
        """The node's standing quotes, expired ones among them."""
        return (quotes[node_id].quote for quotes in self._quotes.values() if node_id in quotes)

    def standing(self, model: str, node_id: str) -> StandingQuote:
        """The quote that won; it stands, because the auction just ran over it."""
        return self._quotes[model][node_id]

    def context_length(self, quote: Quote) -> int:
        """What a quote's context counts for, in tokens: as with its slots, no more than the market allows."""
        return min(quote.context_length, self._context_length_max(quote.model))

    def running(self, node_id: str, model: str) -> int:
        """How many jobs of this model the node has now, by the enclave's own count."""
        return self._running.get((node_id, model), 0)

    def take_slot(self, node_id: str, model: str) -> None:
        """Count one more job."""
        self._running[node_id, model] = self.running(node_id, model) + 1
        self._running_in_all[node_id] = self._running_in_all.get(node_id, 0) + 1

    def free_slot(self, node_id: str, model: str) -> None:
        """Count one job less."""
        left = self.running(node_id, model) - 1
        assert left >= 0
        if left:
            self._running[node_id, model] = left
        else:
            del self._running[node_id, model]
        self._running_in_all[node_id] -= 1
        if not self._running_in_all[node_id]:
            del self._running_in_all[node_id]

    def _context_length_max(self, model: str) -> int:
        terms = self._configuration.model(model)
        assert terms is not None, "quotes and jobs are refused for models that are not listed"
        return terms.context_length_max

    def _has_free_slot(self, quote: Quote, *, allowed: int) -> bool:
        return (
            self.running(quote.node_id, quote.model) < quote.slots
            and self._running_in_all.get(quote.node_id, 0) < allowed
        )


def bid_of(standing: StandingQuote, *, quality_bps: int) -> Bid:
    """A standing quote as the auction rule sees it."""
    return Bid(
        node_id=standing.quote.node_id,
        operator=standing.operator,
        quote=standing.digest,
        input_price=standing.quote.input_price,
        output_price=standing.quote.output_price,
        quality_bps=quality_bps,
    )
