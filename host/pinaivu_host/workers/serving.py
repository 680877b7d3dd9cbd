"""Serving with workers: they hold the public socket, the host's process runs jobs for them and serves the nodes.

Ending goes from the outside in: workers take no more, jobs end, workers end, then the host.
"""

import asyncio
import logging
import signal
import socket
from dataclasses import dataclass

from pinaivu_host.edge import EdgeSettings
from pinaivu_host.host import Host
from pinaivu_host.http_server import make_server
from pinaivu_host.server import address_of, first_of, heed_signals
from pinaivu_host.workers.job_server import JobServer
from pinaivu_host.workers.pool import WorkerPool, private_folder, sockets_in
from pinaivu_host.workers.settings import WorkerSettings

logger = logging.getLogger(__name__)
EVERYBODY: tuple[str, ...] = ("*",)
"""Whoever reaches the host's own socket is a worker, and says who its caller is."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """The public sockets."""

    callers: socket.socket
    nodes: socket.socket


async def serve_with_workers(
    host: Host, listeners: Listeners, edge: EdgeSettings, *, count: int, log_level: str
) -> None:
    """Serve until SIGTERM or SIGINT, as `server.serve`; nodes come to a socket of their own."""
    with private_folder() as folder:
        jobs_socket, http_socket = sockets_in(folder)
        job_server = JobServer(jobs_socket, host.jobs, host.accounts, host.market.metrics)
        inner = make_server(host.app, EdgeSettings(trusted_proxies=EVERYBODY), unix_socket=http_socket)
        outer = make_server(host.node_app, edge)
        settings = WorkerSettings(
            listener=listeners.callers.fileno(),
            jobs=str(jobs_socket),
            http=str(http_socket),
            certificate=None if edge.certificate is None else edge.certificate.files,
            trusted_proxies=edge.trusted_proxies,
            connections_max=-(-edge.connections_max // count),
            log_level=log_level,
            database_url=host.settings.database_url,
            configuration=host.settings.configuration,
            max_body_bytes=host.settings.max_body_bytes,
            queue_ms=host.settings.queue_ms,
            cors_origins=host.settings.cors_origins,
        )
        pool = WorkerPool(count, settings)
        stopping = heed_signals(edge, on_hangup=lambda: pool.signal(signal.SIGHUP))
        await host.start()
        await job_server.start()
        serving = [
            asyncio.create_task(inner.serve(), name="the workers' socket"),
            asyncio.create_task(outer.serve(sockets=[listeners.nodes]), name="the nodes' socket"),
        ]
        pool.start()
        places = {"listen": address_of(listeners.callers), "node_listen": address_of(listeners.nodes)}
        logger.info("listening", extra={"kv": places})
        try:
            await first_of(stopping, serving)
            pool.signal(signal.SIGTERM)
            await host.drain()
            await pool.end(signal.SIGTERM)
            inner.should_exit = outer.should_exit = True
            await asyncio.gather(*serving)
        finally:
            await job_server.stop()
            await host.stop()
