"""`pinaivu host`: serve the gateway, create the first key."""

import argparse
import sys
from pathlib import Path

from pinaivu_shared.errors import CallerError, PinaivuError, VerificationError
from pinaivu_shared.flags import add_flag

USAGE = 2


def host(arguments: list[str]) -> int:
    """Exit 0 when done, 2 for wrong usage or an unusable configuration."""
    parser = argparse.ArgumentParser(prog="pinaivu host", description="The HTTP gateway beside an enclave.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="serve the OpenAI-compatible API and the nodes"))
    _add_create_key(commands.add_parser("create-key", help="open an account and print its API key, once"))
    options = parser.parse_args(arguments)
    try:
        return _serve(options) if options.command == "serve" else _create_key(options)
    except (PinaivuError, OSError, ValueError) as error:
        print(f"pinaivu host: {error}", file=sys.stderr)
        return USAGE


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "listen", default="127.0.0.1:8080", text="HOST:PORT to serve on; port 0 takes a free one")
    add_flag(parser, "enclave", default=None, text="the enclave: unix:PATH or vsock:CID:PORT")
    add_flag(parser, "configuration", default=None, text="file with the configuration that the enclave is given")
    add_flag(parser, "data-dir", default="", text="folder of the embedded database")
    add_flag(parser, "database-url", default="", text="SQLAlchemy URL of another database")
    add_flag(parser, "admin-key-file", default="", text="file with the key of /admin/v1/; without it nobody has access")
    add_flag(parser, "max-body-bytes", default=str(10 * 1024 * 1024), text="largest request body")
    add_flag(parser, "queue-ms", default="5000", text="how long a request may wait for a free slot")
    add_flag(parser, "queue-max", default="256", text="how many requests may wait for a free slot")
    add_flag(parser, "drain-ms", default="25000", text="how long running answers may go on after SIGTERM")
    add_flag(parser, "log-level", default="info", text="debug, info, warning or error")


def _add_create_key(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "data-dir", default="", text="folder of the embedded database")
    add_flag(parser, "database-url", default="", text="SQLAlchemy URL of another database")
    add_flag(parser, "account", default=None, text="name of the account")
    add_flag(parser, "credit", default="0", text="what was paid in, in USDC")


def _serve(options: argparse.Namespace) -> int:
    import uvloop

    from pinaivu_host.host import Host, HostSettings
    from pinaivu_host.link_address import parse_address
    from pinaivu_host.server import listen, serve
    from pinaivu_shared.configuration import parse_configuration
    from pinaivu_shared.logs import configure_logging

    if not __debug__:
        raise CallerError("does not run under python -O: its assertions state invariants")
    configure_logging(options.log_level)
    configuration = Path(options.configuration).read_bytes()
    parse_configuration(configuration)
    settings = HostSettings(
        enclave=parse_address(options.enclave),
        database_url=_database_url(options),
        configuration=configuration,
        admin_key=_secret(options.admin_key_file) if options.admin_key_file else None,
        max_body_bytes=_body_limit(_number(options.max_body_bytes, "max-body-bytes")),
        queue_ms=_number(options.queue_ms, "queue-ms"),
        queue_max=_number(options.queue_max, "queue-max"),
        drain_ms=_number(options.drain_ms, "drain-ms"),
    )
    address, _, port = options.listen.rpartition(":")
    listener = listen(address.strip("[]"), _number(port, "listen"))

    async def main() -> None:
        await serve(Host(settings), listener)

    sys.setswitchinterval(0.001)  # the journal's thread takes turns with the event loop
    uvloop.run(main())
    return 0


def _create_key(options: argparse.Namespace) -> int:
    import asyncio

    from pinaivu_host.store.accounts import Accounts
    from pinaivu_host.store.database import Database
    from pinaivu_shared.money import parse_usdc

    credit = parse_usdc(options.credit)
    database = Database(_database_url(options))
    _, api_key = asyncio.run(Accounts(database).create(name=options.account, credit=credit))
    database.close()
    print(api_key)
    return 0


def _database_url(options: argparse.Namespace) -> str:
    from pinaivu_host.store.database import sqlite_url

    if bool(options.database_url) == bool(options.data_dir):
        raise CallerError("give one of --data-dir and --database-url")
    url: str = options.database_url or sqlite_url(Path(options.data_dir))
    return url


def _body_limit(size_bytes: int) -> int:
    from pinaivu_shared.wire.node import MAX_MESSAGE_BYTES

    largest = MAX_MESSAGE_BYTES - 1024 * 1024  # what is forwarded must fit one message to a node
    if not 0 < size_bytes <= largest:
        raise CallerError(f"--max-body-bytes must be between 1 and {largest}")
    return size_bytes


def _secret(path: str) -> str:
    secret = Path(path).read_text(encoding="utf-8").strip()
    if len(secret) < 16:
        raise CallerError(f"{path}: a secret of at least 16 characters is expected")
    return secret


def _number(text: str, name: str) -> int:
    if not text.isdecimal():
        raise VerificationError(f"--{name}", f"{text[:40]!r} is no number")
    return int(text)
