"""Keeping quotes standing: posted when an engine is ready, renewed in time, replaced when their terms change.

What went is withdrawn by name, so that the trouble of one engine costs the others nothing.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable

import trio

from pinaivu_node.engine_pool import EnginePool
from pinaivu_node.quotes import QuoteBook
from pinaivu_node.tariff import QuoteTerms
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.wire.node import FromNode, WithdrawQuotes

logger = logging.getLogger(__name__)


class StandingQuotes:
    """The quotes of one session, from `keep`'s start until it is cancelled."""

    def __init__(
        self,
        book: QuoteBook,
        pool: EnginePool,
        configuration: Configuration,
        *,
        send: Callable[[FromNode], Awaitable[None]],
        now_ms: Callable[[], int],
    ) -> None:
        """`now_ms` is the enclave's time."""
        self._book, self._pool, self._configuration = book, pool, configuration
        self._send, self._now_ms = send, now_ms
        self._told: dict[str, object] = {}

    async def keep(self) -> None:
        """Never return. A renewal comes in the middle of a quote's life, a change at once."""
        standing: dict[str, QuoteTerms] = {}
        renewal = trio.current_time()
        while True:
            changed = self._pool.change.next()
            wanted = self._wanted()
            await self._withdraw(standing.keys() - wanted.keys(), everything=not wanted)
            due = trio.current_time() >= renewal
            for terms in wanted.values():
                if due or standing.get(terms.model) != terms:
                    await self._send(self._book.quote(terms, now_ms=self._now_ms()))
            standing = wanted
            renewal = trio.current_time() + self._book.lifetime_ms / 2000 if due else renewal
            with trio.move_on_at(renewal):
                await changed.wait()

    async def _withdraw(self, models: Iterable[str], *, everything: bool) -> None:
        names = sorted(models)
        for name in [""] if names and everything else names:
            await self._send(WithdrawQuotes(name))

    def _wanted(self) -> dict[str, QuoteTerms]:
        sales = self._pool.for_sale(self._configuration)
        unlisted = {name: reason for sale in sales for name, reason in sale.unlisted.items()}
        self._tell("not quoted, since the market would not buy it", unlisted)
        without_slot = sorted(name for sale in sales for name in sale.without_slot)
        self._tell("no slot left for these models, set more or name fewer", without_slot)
        return {terms.model: terms for sale in sales for terms in sale.terms}

    def _tell(self, event: str, models: Collection[str]) -> None:
        """Say it when it is new in this session."""
        if models and models != self._told.get(event):
            logger.warning(event, extra={"kv": {"models": models}})
        self._told[event] = models
