"""`GET /healthz`: this process runs. `GET /readyz`: it can take requests."""

from starlette.types import Receive, Scope, Send

from pinaivu_host.clock import now_ms
from pinaivu_host.gateway.error_table import COORDINATOR_UNAVAILABLE
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.http_answer import send_json
from pinaivu_host.gateway.market import Market


class Health:
    """For whoever starts, stops and balances gateways."""

    def __init__(self, market: Market) -> None:
        self._market = market

    async def alive(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """200 as long as anything is answered."""
        await send_json(send, b'{"status":"ok"}', request_id=scope["state"]["request_id"])

    async def ready(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """200 when an enclave serves, the journal writes and no shutdown has begun; 503 otherwise.

        `nodes` says how many of them have a standing quote; none does not make the gateway unready.
        """
        if reason := self._why_not_ready():
            raise ApiError(COORDINATOR_UNAVAILABLE, f"not ready: {reason}")
        offering = self._market.nodes.offering(now_ms())
        body = b'{"status":"ready","nodes":%d}' % offering
        await send_json(send, body, request_id=scope["state"]["request_id"])

    def _why_not_ready(self) -> str:
        if self._market.draining:
            return "this gateway is shutting down"
        if self._market.journal.failed:
            return "the journal has ended, and the host's log says why"
        return "" if self._market.link.ready else "no enclave serves"
