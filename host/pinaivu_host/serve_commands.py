"""`pinaivu host serve`: what an operator can set about it, and the serving itself."""

import argparse
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinaivu_host import database_commands as database
from pinaivu_host.flag_file import read_flag_file
from pinaivu_shared.errors import CallerError
from pinaivu_shared.flags import add_flag

if TYPE_CHECKING:
    from pinaivu_host.edge import EdgeSettings
    from pinaivu_host.host import HostSettings

PORT_MAX = 65_535


def add_serve(commands: Any) -> None:  # noqa: ANN401 - argparse keeps that type to itself
    """The sub-command `serve`."""
    parser = commands.add_parser("serve", help="serve the OpenAI-compatible API and the nodes")
    add_flag(parser, "listen", default="127.0.0.1:8080", text="HOST:PORT to serve on; port 0 takes a free one")
    _add_edge(parser)
    _add_enclave(parser)
    database.add_database(parser)
    _add_operator(parser)
    _add_bounds(parser)
    add_flag(parser, "workers", default="1", text="processes that speak HTTP; above 1, nodes connect to --node-listen")
    add_flag(parser, "node-listen", default="", text="HOST:PORT for nodes, where there are several workers")
    add_flag(parser, "drain-ms", default="25000", text="how long running answers may go on after SIGTERM")
    add_flag(parser, "log-level", default="info", text="debug, info, warning or error")


def _add_enclave(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "enclave", default=None, text="the enclave: vsock:CID:PORT, hybrid:PATH:PORT or unix:PATH")
    add_flag(parser, "configuration", default=None, text="file with the configuration that the enclave is given")
    add_flag(parser, "kms-listen", default="vsock:5001", text="where the enclave asks for KMS: vsock:PORT or unix:PATH")
    add_flag(
        parser,
        "kms-connect",
        default="",
        text="HOST:PORT to dial in place of the KMS endpoint; the enclave judges its certificate all the same",
    )


def _add_operator(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "admin-key-file", default="", text="file with the key of /admin/v1/; without it nobody has access")
    add_flag(
        parser,
        "operator-key-file",
        default="",
        text="file with the operator's key; without it orders are taken that were signed elsewhere, and none is made",
    )


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "max-body-bytes", default=str(10 * 1024 * 1024), text="largest request body")
    add_flag(parser, "queue-ms", default="5000", text="how long a request may wait for a free slot, or for its credit")
    add_flag(
        parser,
        "queue-max",
        default="1024",
        text="how many requests may wait for a free slot, half of them of one account; as many for their credit",
    )
    add_flag(
        parser,
        "tokenizers",
        default="",
        text="MODEL=FILE,…: tokenizer.json of models whose answers are counted again, so that no node is paid for more",
    )


def _add_edge(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "tls-certificate", default="", text="PEM file with the chain; HTTPS is served. SIGHUP reads again")
    add_flag(parser, "tls-key", default="", text="PEM file with the key of --tls-certificate")
    add_flag(
        parser,
        "trusted-proxies",
        default="",
        text="ADDRESS,NETWORK,…: proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; otherwise nobody's",
    )
    add_flag(
        parser,
        "cors-origins",
        default="",
        text="ORIGIN,…: whose pages may call /v1/ from a browser, * for all; without it none may",
    )
    add_flag(parser, "connections-max", default="4096", text="how many connections may be open, those of nodes as well")


def serve(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    import uvloop

    from pinaivu_host.host import Host
    from pinaivu_host.server import serve as serve_alone
    from pinaivu_host.workers.serving import Listeners, serve_with_workers
    from pinaivu_shared.logs import configure_logging

    if not __debug__:
        raise CallerError("does not run under python -O: its assertions state invariants")
    configure_logging(options.log_level)
    settings, edge = _host_settings(options), _edge_settings(options)
    workers = _number(options.workers, "workers")
    if workers < 1:
        raise CallerError(f"--workers {workers}: at least one process speaks HTTP")
    if (workers > 1) != bool(options.node_listen):
        raise CallerError("--node-listen goes with --workers above 1, and they with it")
    listener = _listen(options.listen, "listen")

    async def main() -> None:
        if workers == 1:
            await serve_alone(Host(settings), listener, edge)
            return
        with _listen(options.node_listen, "node-listen") as for_nodes:
            listeners = Listeners(listener, for_nodes)
            await serve_with_workers(Host(settings), listeners, edge, count=workers, log_level=options.log_level)

    sys.setswitchinterval(0.001)  # the journal's thread takes turns with the event loop
    with listener:
        uvloop.run(main())
    return 0


def _host_settings(options: argparse.Namespace) -> "HostSettings":
    from pinaivu_host.admin_key import read_admin_key
    from pinaivu_host.gateway.cors import parse_origins
    from pinaivu_host.gateway.recount import load_tokenizers
    from pinaivu_host.host import HostSettings
    from pinaivu_host.link_address import parse_address
    from pinaivu_host.listening_address import parse_listening_address
    from pinaivu_shared.configuration import canonical_configuration
    from pinaivu_shared.key_file import read_key_file

    configuration = canonical_configuration(read_flag_file(options.configuration, "configuration"))
    return HostSettings(
        enclave=parse_address(options.enclave),
        database_url=database.database_url(options),
        configuration=configuration,
        kms_listen=parse_listening_address(options.kms_listen),
        kms_connect=_host_port(options.kms_connect, "kms-connect") if options.kms_connect else None,
        admin_key=read_admin_key(options.admin_key_file) if options.admin_key_file else None,
        operator_key=read_key_file(Path(options.operator_key_file)) if options.operator_key_file else None,
        max_body_bytes=_body_limit(_number(options.max_body_bytes, "max-body-bytes")),
        queue_ms=_number(options.queue_ms, "queue-ms"),
        queue_max=_number(options.queue_max, "queue-max"),
        recounter=load_tokenizers(options.tokenizers),
        drain_ms=_number(options.drain_ms, "drain-ms"),
        cors_origins=parse_origins(options.cors_origins),
    )


def _edge_settings(options: argparse.Namespace) -> "EdgeSettings":
    from pinaivu_host.edge import EdgeSettings, allow_connections, parse_proxies, read_certificate

    return EdgeSettings(
        certificate=read_certificate(options.tls_certificate, options.tls_key),
        trusted_proxies=parse_proxies(options.trusted_proxies),
        connections_max=allow_connections(_number(options.connections_max, "connections-max")),
    )


def _listen(text: str, flag: str) -> socket.socket:
    from pinaivu_host.http_server import listen

    try:
        return listen(*_host_port(text, flag))
    except OSError as error:
        raise CallerError(f"--{flag} {text}: {error.strerror}") from error


def _body_limit(size_bytes: int) -> int:
    from pinaivu_shared.wire.node import MAX_MESSAGE_BYTES

    largest = MAX_MESSAGE_BYTES - 1024 * 1024  # what is forwarded must fit one message to a node
    if not 0 < size_bytes <= largest:
        raise CallerError(f"--max-body-bytes must be between 1 and {largest}")
    return size_bytes


def _host_port(text: str, name: str) -> tuple[str, int]:
    host_name, _, port = text.rpartition(":")
    host_name = host_name.strip("[]")
    if not host_name or not port.isascii() or not port.isdecimal() or int(port) > PORT_MAX:
        raise CallerError(f"--{name}: {text[:100]!r} is not HOST:PORT")
    return host_name, int(port)


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise CallerError(f"--{name}: {text[:40]!r} is no number")
    return int(text)
