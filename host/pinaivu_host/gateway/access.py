"""One request as the operator sees it: a line in the log and a few counts, and nothing of what was said in it.

The line has the route's template, never the path: an account's id is in some paths, and a stray request may have
anything there. It has a model's name only if the market lists the model. `client` is the caller's address, without a
port: the connection's, or what a trusted proxy says.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.routing import Route
from starlette.types import Message, Scope, Send

from pinaivu_host.gateway.departure import Departure
from pinaivu_host.gateway.error_table import Header
from pinaivu_host.metrics import Metrics
from pinaivu_host.store.accounts import Caller

logger = logging.getLogger(__name__)

UNMATCHED: Final = "unmatched"
CALLER: Final = "caller"
"""Where in a scope's state stands who asks, once that is known, if the key has limits."""
_OF_LIMITS: Final = b"x-ratelimit-"
HeadersFor = Callable[[Caller], Awaitable[tuple[Header, ...]]]
CALLER_GONE_STATUS: Final = 499
"""What stands for a status where the caller left before there was one, as in nginx's logs."""


class Access:
    """From the request's head to the end of its answer. `outcome` is for whoever knows it before the end."""

    __slots__ = ("_began", "_headers_for", "_metrics", "_scope", "_send", "outcome", "status")

    def __init__(self, metrics: Metrics, scope: Scope, send: Send, headers_for: HeadersFor) -> None:
        self._metrics, self._scope, self._send, self._headers_for = metrics, scope, send, headers_for
        self._began = asyncio.get_running_loop().time()
        self.status = 0
        self.outcome = ""
        metrics.requests_running.inc()

    async def send(self, message: Message) -> None:
        """What the endpoint answers, passed on; its first message has the status, and gets headers for the caller."""
        if not self.status:
            if CALLER in self._scope["state"]:
                await self._add_headers(message)
            self.status = message["status"]
        await self._send(message)

    async def _add_headers(self, message: Message) -> None:
        """Those that say what is left of the key's limits, where the endpoint had nothing to say of it."""
        if not any(name.startswith(_OF_LIMITS) for name, _ in message["headers"]):
            found = await self._headers_for(self._scope["state"][CALLER])
            message["headers"] += [(name.encode(), value.encode()) for name, value in found]

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


async def no_headers(_caller: Caller) -> tuple[Header, ...]:
    """For a gateway that counts nothing."""
    return ()


def route_of(scope: Scope) -> str:
    """The template of the route that the router found, one word where it found none."""
    route = scope.get("route")
    return route.path if isinstance(route, Route) else UNMATCHED


def note_job(scope: Scope, metrics: Metrics, model: str, departure: Departure) -> None:
    """Add to the line what a job knows: a stream can have status 200 and still fail."""
    scope["state"]["model"] = metrics.model_label(model)
    scope["state"]["outcome"] = departure.outcome or departure.reason
