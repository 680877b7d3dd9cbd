"""The gateway as one ASGI application: routes, a request id on every answer, one shape for every error."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import Receive, Scope, Send

from pinaivu_host.errors import CommandRefusedError, CoordinatorUnavailableError
from pinaivu_host.gateway.access import Access, HeadersFor, no_headers, route_of
from pinaivu_host.gateway.body import CallerGoneError
from pinaivu_host.gateway.cors import Cors
from pinaivu_host.gateway.error_table import DATABASE_UNAVAILABLE, INTERNAL_ERROR, METHOD_NOT_ALLOWED, NOT_FOUND
from pinaivu_host.gateway.errors import ApiError, coordinator_unavailable
from pinaivu_host.gateway.http_answer import send_error
from pinaivu_host.gateway.order import new_request_id
from pinaivu_host.metrics import Metrics
from pinaivu_host.store.engine import complaint, is_lost

logger = logging.getLogger(__name__)
Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]
_ENDPOINTS: Final = (
    "/chat/completions",
    "/models",
    "/receipts",
    "/usage",
    "/pricing",
    "/attestation",
    "/completions",
    "/embeddings",
    "/responses",
)
_BASE: Final = "the base URL must end in /v1, exactly once, as in https://HOST/v1"


class Gateway:
    """Dispatches, and turns whatever an endpoint raises into an error response."""

    def __init__(
        self, routes: Sequence[BaseRoute], metrics: Metrics, cors: Cors, headers_for: HeadersFor = no_headers
    ) -> None:
        """`headers_for` says what is left of the limits of a key that has some."""
        self._metrics, self._cors, self._headers_for = metrics, cors, headers_for
        self._router = Router(routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or WebSocket."""
        scope["app"] = self  # the router then raises HTTPException instead of answering in plain text
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        request_id = new_request_id()
        scope["state"] = {"request_id": request_id}
        access = Access(self._metrics, scope, self._cors.wrap(scope, send), self._headers_for)
        try:
            if self._cors.is_preflight(scope):
                await self._cors.answer_preflight(scope, access.send)
            else:
                await self._router(scope, receive, access.send)
        except CallerGoneError:
            access.outcome = "client_disconnected"
        except Exception as error:
            if access.status:  # a response has begun, after which no other can be sent
                access.outcome = INTERNAL_ERROR.code
                raise
            refusal = _as_api_error(error, scope)
            access.outcome = refusal.kind.code
            await send_error(access.send, refusal, request_id=request_id)
        finally:
            access.end()


class AsgiEndpoint:
    """Makes the router treat a bound method as an ASGI application, which costs no Request object."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        await self._endpoint(scope, receive, send)


def route(path: str, method: str, endpoint: Endpoint) -> Route:
    """A route for one method."""
    return Route(path, AsgiEndpoint(endpoint), methods=[method])


def websocket_route(path: str, endpoint: Callable[[Any], Awaitable[None]]) -> WebSocketRoute:
    """A route for WebSockets."""
    return WebSocketRoute(path, endpoint)


def refusal_of(error: Exception, *, request_id: str, route: str) -> ApiError:
    """What a caller is told of whatever went wrong; what is nobody's doing but ours is logged."""
    match error:
        case ApiError():
            return error
        case CoordinatorUnavailableError() | CommandRefusedError():
            return coordinator_unavailable()
        case DBAPIError() if is_lost(error):
            kv = {"request_id": request_id, "route": route, "error": complaint(error)}
            logger.error("the database cannot be reached", extra={"kv": kv})
            return ApiError(DATABASE_UNAVAILABLE, "the gateway's database is not available right now, try again")
        case _:
            logger.error("request failed", exc_info=error, extra={"kv": {"request_id": request_id, "route": route}})
            return ApiError(INTERNAL_ERROR, "something went wrong here; the request id helps to find out what")


def _as_api_error(error: Exception, scope: Scope) -> ApiError:
    match error:
        case HTTPException(status_code=404):
            return ApiError(NOT_FOUND, _not_found(scope["path"]))
        case HTTPException(status_code=405):
            allowed = (error.headers or {}).get("Allow", "")
            message = f"{scope['method']} is not allowed here, only {allowed}"
            return ApiError(METHOD_NOT_ALLOWED, message, headers=(("allow", allowed),))
        case _:
            return refusal_of(error, request_id=scope["state"]["request_id"], route=route_of(scope))


def _not_found(path: str) -> str:
    """A hint where the base URL is wrong, the commonest reason for a 404."""
    bare = "/" + path.strip("/")
    if bare == "/" or bare.endswith("/v1"):
        return f"there is nothing at {path[:100]} itself; {_BASE}, and GET /v1/models lists what can be asked"
    if _has_wrong_base(bare):
        return f"there is no {path[:100]}; {_BASE}"
    if bare.removeprefix("/v1") in _ENDPOINTS:
        return f"there is no {path[:100]}; write it without the slash at its end"
    return f"there is no {path[:100]}"


def _has_wrong_base(path: str) -> bool:
    """Whether an endpoint is asked at another place than right behind `/v1`, or twice: other services have others."""
    if path.startswith("/admin/"):
        return False
    ends = [place + len(one) for one in _ENDPOINTS if (place := f"{path}/".find(f"{one}/")) >= 0]
    twice = any(f"{path[end:]}/".startswith(tuple(f"{one}/" for one in _ENDPOINTS)) for end in ends)
    return bool(ends) and (twice or not path.startswith("/v1/") or path.startswith("/v1/v1/"))
