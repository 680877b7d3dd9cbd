"""What all endpoints that ask a model do: who asks, what is asked, then a job; the caller is watched meanwhile.

With an `Idempotency-Key` there may be a job already, running or ended.
"""

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from starlette.types import Receive, Scope, Send

from pinaivu_host.gateway.access import note_job
from pinaivu_host.gateway.ask import ReadAsk
from pinaivu_host.gateway.authentication import (
    authenticate_asker,
    authenticate_payer,
    check_model_allowed,
    key_digest,
)
from pinaivu_host.gateway.body import parse_object, read_body
from pinaivu_host.gateway.delivery import make_sink
from pinaivu_host.gateway.departure import Departure, watch_caller
from pinaivu_host.gateway.errors import shutting_down
from pinaivu_host.gateway.idempotency_key import Once, digest_body, read_key
from pinaivu_host.gateway.jobs import Asked, Jobs
from pinaivu_host.gateway.order import Order, canonical_form, make_order
from pinaivu_host.metrics import Metrics
from pinaivu_host.store.accounts import Accounts, Caller

DEFAULT_BODY_BYTES_MAX: Final = 10 * 1024 * 1024
LARGE_BODY_BYTES: Final = 32 * 1024
"""Reading and hashing more than this takes so long that other requests should get turns meanwhile."""

BODY_THREADS: Final = 2
"""Threads of their own, so that large bodies keep nothing else waiting that is done in threads."""


class Asking:
    """Endpoints that differ in how they read a body (`Ask`). One for the whole gateway."""

    def __init__(self, jobs: Jobs, accounts: Accounts, metrics: Metrics, *, max_body_bytes: int) -> None:
        self._jobs, self._accounts, self._metrics = jobs, accounts, metrics
        self._max_body_bytes = max_body_bytes
        self._threads = ThreadPoolExecutor(BODY_THREADS, thread_name_prefix="bodies")

    async def serve(self, read: ReadAsk, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; ApiError for what ends before an order is made.

        uvicorn does not cancel this when the caller leaves, so it outlives the request by itself.
        """
        if self._jobs.draining:
            raise shutting_down()
        key = read_key(scope)
        check_payer = functools.partial(authenticate_payer, scope, self._accounts)
        caller = await (check_payer() if key is None else authenticate_asker(scope, self._accounts))
        raw = await read_body(scope, receive, max_bytes=self._max_body_bytes)
        request_id = scope["state"]["request_id"]
        path = "" if key is None else scope["path"]
        if len(raw) > LARGE_BODY_BYTES:
            read_order = functools.partial(_read_order, read, request_id, raw, caller, path)
            order, digest = await asyncio.get_running_loop().run_in_executor(self._threads, read_order)
            del read_order
        else:
            order, digest = _read_order(read, request_id, raw, caller, path)
        del raw
        departure = Departure()
        watcher = asyncio.create_task(watch_caller(receive, departure))
        try:
            once = None if key is None else Once(key, digest)
            sinks = functools.partial(make_sink, send, departure)
            await self._jobs.run(Asked(key_digest(scope), order, once, check_payer), sinks, departure)
        finally:
            watcher.cancel()
            note_job(scope, self._metrics, order.command.model, departure)


def _read_order(read: ReadAsk, request_id: str, raw: bytes, caller: Caller, path: str) -> tuple[Order, bytes]:
    """The order, and the digest by which the request is recognised if it has a `path` to be recognised at."""
    body = parse_object(raw)
    ask = read(body)
    check_model_allowed(caller, ask.model)
    canonical = canonical_form(body)
    order = make_order(request_id, canonical, ask, caller)
    return order, digest_body(path, canonical) if path else b""
