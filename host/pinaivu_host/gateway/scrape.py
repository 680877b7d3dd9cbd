"""`GET /metrics`: what the host counts and how it stands at this moment, for Prometheus, under the admin key."""

import logging
from typing import Final

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Receive, Scope, Send

from pinaivu_host.clock import now_ms
from pinaivu_host.gateway.authentication import authenticate_operator
from pinaivu_host.gateway.http_answer import NO_STORE, response_start
from pinaivu_host.gateway.market import Market
from pinaivu_host.store.orders import Orders

logger = logging.getLogger(__name__)
UNKNOWN: Final = float("nan")


class Scrape:
    """Prometheus' text format. It is answered whatever has failed: that is when it is read."""

    def __init__(self, market: Market, orders: Orders, *, admin_key: str | None) -> None:
        self._market, self._orders, self._admin_key = market, orders, admin_key

    async def metrics(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """All series."""
        authenticate_operator(scope, self._admin_key)
        self._market.metrics.orders_pending.set(await self._pending())
        self._look()
        body, request_id = self._market.metrics.exposition(), scope["state"]["request_id"]
        kind = CONTENT_TYPE_PLAIN_0_0_4
        await send(response_start(200, kind, request_id=request_id, headers=(NO_STORE,), size_bytes=len(body)))
        await send({"type": "http.response.body", "body": body})

    def _look(self) -> None:
        market, metrics = self._market, self._market.metrics
        metrics.jobs_running.set(len(market.jobs))
        metrics.queued.labels("slots").set(market.capacity.waiting)
        metrics.queued.labels("credit").set(market.credit.waiting)
        metrics.nodes_connected.set(len(market.nodes))
        metrics.nodes_offering.set(market.nodes.offering(now_ms()))
        metrics.link_ready.set(market.link.ready)
        metrics.journal_backlog.set(market.journal.backlog)
        metrics.journal_failed.set(market.journal.failed)

    async def _pending(self) -> float:
        try:
            return await self._orders.count_pending()
        except SQLAlchemyError as error:
            logger.warning("pending orders cannot be counted", extra={"kv": {"error": type(error).__name__}})
            return UNKNOWN
