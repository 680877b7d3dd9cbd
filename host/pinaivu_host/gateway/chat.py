"""`POST /v1/chat/completions`: who asks, what is asked, then a job; the caller is watched from the body's end on."""

import asyncio
from typing import Final

from starlette.types import Receive, Scope, Send

from pinaivu_host.gateway.authentication import authenticate_payer
from pinaivu_host.gateway.body import parse_object, read_body
from pinaivu_host.gateway.chat_request import read_chat_request
from pinaivu_host.gateway.chat_rules import check_chat
from pinaivu_host.gateway.delivery import Sink, StreamSink, WholeSink
from pinaivu_host.gateway.departure import Departure, watch_caller
from pinaivu_host.gateway.errors import SHUTTING_DOWN, ApiError
from pinaivu_host.gateway.job import Job
from pinaivu_host.gateway.market import Market
from pinaivu_host.gateway.order import Order, make_order
from pinaivu_host.store.accounts import Accounts, Caller

DEFAULT_BODY_BYTES_MAX: Final = 10 * 1024 * 1024
LARGE_BODY_BYTES: Final = 128 * 1024
"""Reading and hashing more than this takes so long that other requests should get turns meanwhile."""


class ChatCompletions:
    """An ASGI application. uvicorn does not cancel it when the caller leaves, so it outlives the request by itself."""

    def __init__(self, market: Market, accounts: Accounts, *, max_body_bytes: int) -> None:
        self._market, self._accounts, self._max_body_bytes = market, accounts, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; ApiError for what ends before an order is made."""
        if self._market.draining:
            raise ApiError(SHUTTING_DOWN, "this gateway is shutting down, try again")
        caller = await authenticate_payer(scope, self._accounts)
        raw = await read_body(scope, receive, max_bytes=self._max_body_bytes)
        request_id = scope["state"]["request_id"]
        if len(raw) > LARGE_BODY_BYTES:
            order = await asyncio.to_thread(_read_order, request_id, raw, caller)
        else:
            order = _read_order(request_id, raw, caller)
        del raw
        departure = Departure()
        sink: Sink = StreamSink(send, order, departure) if order.chat.stream else WholeSink(send, order)
        watcher = asyncio.create_task(watch_caller(receive, departure))
        try:
            await Job(self._market, order, sink, departure).run()
        finally:
            watcher.cancel()


def _read_order(request_id: str, raw: bytes, caller: Caller) -> Order:
    body = parse_object(raw)
    chat = read_chat_request(body)
    check_chat(chat)
    return make_order(request_id, body, chat, caller)
