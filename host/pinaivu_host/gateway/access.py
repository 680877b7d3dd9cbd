"""One request as the operator sees it: a line in the log and a few counts, and nothing of what was said in it.

The line has the route's template, never the path: an account's id is in some paths, and a stray request may have
anything there. It has a model's name only if the market lists the model. `client` is the caller's address, without a
port: the connection's, or what a trusted proxy says.
"""

import asyncio
import logging
from typing import Any, Final

from starlette.routing import Route
from starlette.types import Message, Scope, Send

from pinaivu_host.gateway.departure import Departure
from pinaivu_host.metrics import Metrics

logger = logging.getLogger(__name__)

UNMATCHED: Final = "unmatched"
CALLER_GONE_STATUS: Final = 499
"""What stands for a status where the caller left before there was one, as in nginx's logs."""


class Access:
    """From the request's head to the end of its answer. `outcome` is for whoever knows it before the end."""

    __slots__ = ("_began", "_metrics", "_scope", "_send", "outcome", "status")

    def __init__(self, metrics: Metrics, scope: Scope, send: Send) -> None:
        self._metrics, self._scope, self._send = metrics, scope, send
        self._began = asyncio.get_running_loop().time()
        self.status = 0
        self.outcome = ""
        metrics.requests_running.inc()

    async def send(self, message: Message) -> None:
        """What the endpoint answers, passed on; its first message has the status."""
        if not self.status:
            self.status = message["status"]
        await self._send(message)

    def end(self) -> None:
        """Count and log it."""
        duration_s = asyncio.get_running_loop().time() - self._began
        route, status, state = route_of(self._scope), self.status or CALLER_GONE_STATUS, self._scope["state"]
        self._metrics.requests_running.dec()
        self._metrics.answered(route, status, duration_s)
        peer = self._scope.get("client")
        kv: dict[str, Any] = {
            "request_id": state["request_id"],
            "client": peer[0] if peer else None,
            "route": route,
            "status": status,
            "duration_ms": round(duration_s * 1000),
            "model": state.get("model"),
            "outcome": self.outcome or state.get("outcome") or ("ok" if self.status else "client_disconnected"),
        }
        logger.info("request", extra={"kv": kv})


def route_of(scope: Scope) -> str:
    """The template of the route that the router found, one word where it found none."""
    route = scope.get("route")
    return route.path if isinstance(route, Route) else UNMATCHED


def note_job(scope: Scope, metrics: Metrics, model: str, departure: Departure) -> None:
    """Add to the line what a job knows: a stream can have status 200 and still fail."""
    scope["state"]["model"] = metrics.model_label(model)
    scope["state"]["outcome"] = departure.outcome or departure.reason
