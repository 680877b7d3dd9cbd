"""One worker: HTTP, TLS, keys, reading of requests and writing of answers. It ends with its host, or when told to."""

import asyncio
import functools
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from starlette.types import Receive, Scope, Send

from pinaivu_host.edge import EdgeSettings
from pinaivu_host.gateway.app import Gateway, route
from pinaivu_host.gateway.asking import Asking
from pinaivu_host.gateway.body import CallerGoneError
from pinaivu_host.gateway.cors import Cors
from pinaivu_host.gateway.endpoints import READERS
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.http_answer import send_error
from pinaivu_host.gateway.order import new_request_id
from pinaivu_host.gateway.rate_limits import make_rate_limits
from pinaivu_host.http_server import make_server
from pinaivu_host.metrics import Metrics
from pinaivu_host.store.accounts import Accounts
from pinaivu_host.store.database import Database
from pinaivu_host.workers.relay import Relay
from pinaivu_host.workers.remote_jobs import RemoteJobs
from pinaivu_host.workers.settings import WorkerSettings
from pinaivu_host.workers.wire import Answered, encode
from pinaivu_shared.configuration import parse_configuration
from pinaivu_shared.logs import configure_logging

logger = logging.getLogger(__name__)
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class WorkerMetrics(Metrics):
    """Counts of what this worker answers, told to the host, which shows them."""

    def __init__(self, models: list[str]) -> None:
        super().__init__(models)
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self, path: Path) -> None:
        """Open the connection that they are told over."""
        _, self._writer = await asyncio.open_unix_connection(path)

    def answered(self, route: str, status: int, duration_s: float) -> None:
        """Tell the host."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(Answered(route, status, duration_s)))


class WorkerApp:
    """Asks are served here, everything else by the host."""

    def __init__(self, asks: Gateway, relay: Relay) -> None:
        self._asks, self._relay = asks, relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Nodes do not come here."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "nodes connect to --node-listen"})
        elif scope["path"] in READERS:
            await self._asks(scope, receive, send)
        else:
            await self._pass_on(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The host counts and logs it."""
        try:
            await self._relay.serve(scope, receive, send)
        except ApiError as error:
            await send_error(send, error, request_id=new_request_id())
        except CallerGoneError:
            pass


async def run(settings: WorkerSettings) -> None:
    """Serve until told to stop, or until the host has gone; running answers come to their end."""
    database, configuration = Database(settings.database_url), parse_configuration(settings.configuration)
    accounts = Accounts(database)
    limits = make_rate_limits(database, configuration, queue_ms=settings.queue_ms)
    metrics = WorkerMetrics([terms.model for terms in configuration.models])
    await metrics.connect(Path(settings.jobs))
    jobs, relay = RemoteJobs(Path(settings.jobs)), Relay(Path(settings.http))
    asking = Asking(jobs, accounts, metrics, max_body_bytes=settings.max_body_bytes)
    routes = [route(path, "POST", functools.partial(asking.serve, read)) for path, read in READERS.items()]
    asks = Gateway(routes, metrics, Cors(settings.cors_origins), limits.headers)
    edge = settings.edge()
    server = make_server(WorkerApp(asks, relay), edge)
    serving = asyncio.create_task(server.serve(sockets=[socket.socket(fileno=settings.listener)]))
    logger.info("worker ends", extra={"kv": {"reason": await _reason_to_stop(edge)}})
    jobs.draining = True
    await jobs.ended()
    server.should_exit = True
    await serving
    await relay.close()
    await accounts.uses.written()
    await limits.close()
    database.close()


async def _reason_to_stop(edge: EdgeSettings) -> str:
    """Wait for it: a signal, or the end of the host. SIGHUP has the certificate's files read again."""
    loop = asyncio.get_running_loop()
    reason: asyncio.Future[str] = loop.create_future()

    def stop(why: str) -> None:
        if not reason.done():
            reason.set_result(why)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop, number.name)
    if edge.certificate is not None:
        loop.add_signal_handler(signal.SIGHUP, edge.certificate.read_again)
    host_ends = loop.create_task(_host_ended(), name="the host's end")
    host_ends.add_done_callback(lambda _: stop("the host has gone"))
    try:
        return await reason
    finally:
        host_ends.cancel()


async def _host_ended() -> None:
    """The host holds the other end of the standard input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass


def main() -> None:
    """Read the settings, one line, and serve."""
    settings = msgspec.json.decode(sys.stdin.readline(), type=WorkerSettings)
    configure_logging(settings.log_level)
    for name in ("httpx", "httpcore"):  # they would log every path and header that is passed on
        logging.getLogger(name).setLevel(logging.WARNING)
    uvloop.run(run(settings))


if __name__ == "__main__":
    main()
