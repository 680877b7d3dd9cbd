"""`pinaivu host`: serve the gateway, create the first key, sign orders, write the policy of the KMS key."""

import argparse
import socket
import sys
from pathlib import Path

from pinaivu_host import database_commands as database
from pinaivu_host import operator_commands as operator
from pinaivu_host.operator_commands import read_file
from pinaivu_shared.errors import CallerError, PinaivuError
from pinaivu_shared.flags import add_flag, add_switch

USAGE = 2
PORT_MAX = 65_535
NOT_GIVEN = "(not given)"
"""A flag that was left out; an empty one is somebody's empty variable, and decides nothing."""

KMS_POLICY = """\
Print the policy of the KMS key that guards the vault secret, on stdout. It opens the vault for this image with this
configuration only. Make the key first: symmetric, single-Region, with key material of AWS (no import, no external
store); its ARN goes into the configuration. Then put this policy on it with `aws kms put-key-policy --policy-name
default --bypass-policy-lockout-safety-check`: without that flag AWS refuses a policy that its caller cannot change
again. Do it before the first start, and see that `aws kms list-grants` is empty."""


def host(arguments: list[str]) -> int:
    """Exit 0 when done, 2 for wrong usage or an unusable configuration."""
    parser = argparse.ArgumentParser(prog="pinaivu host", description="The HTTP gateway beside an enclave.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="serve the OpenAI-compatible API and the nodes"))
    _add_create_key(commands.add_parser("create-key", help="open an account and print its API key, once"))
    operator.add_create_operator_key(commands)
    operator.add_sign_order(commands)
    database.add_backup(commands)
    database.add_restore(commands)
    database.add_rebuild(commands)
    _add_kms_policy(commands.add_parser("kms-policy", help="print the policy of the KMS key", description=KMS_POLICY))
    options = parser.parse_args(arguments)
    runs = {
        "serve": _serve,
        "create-key": _create_key,
        "create-operator-key": operator.create_operator_key,
        "sign-order": operator.sign_order,
        "backup": database.backup,
        "restore": database.restore,
        "rebuild": database.rebuild,
        "kms-policy": _kms_policy,
    }
    try:
        return runs[options.command](options)
    except (PinaivuError, OSError, ValueError) as error:
        print(f"pinaivu host: {error}", file=sys.stderr)
        return USAGE


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "listen", default="127.0.0.1:8080", text="HOST:PORT to serve on; port 0 takes a free one")
    _add_edge(parser)
    add_flag(parser, "enclave", default=None, text="the enclave: vsock:CID:PORT, hybrid:PATH:PORT or unix:PATH")
    add_flag(parser, "configuration", default=None, text="file with the configuration that the enclave is given")
    add_flag(parser, "kms-listen", default="vsock:5001", text="where the enclave asks for KMS: vsock:PORT or unix:PATH")
    add_flag(
        parser,
        "kms-connect",
        default="",
        text="HOST:PORT to dial in place of the KMS endpoint; the enclave judges its certificate all the same",
    )
    database.add_database(parser)
    add_flag(parser, "admin-key-file", default="", text="file with the key of /admin/v1/; without it nobody has access")
    add_flag(
        parser,
        "operator-key-file",
        default="",
        text="file with the operator's key; without it orders are taken that were signed elsewhere, and none is made",
    )
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
    add_flag(parser, "workers", default="1", text="processes that speak HTTP; above 1, nodes connect to --node-listen")
    add_flag(parser, "node-listen", default="", text="HOST:PORT for nodes, where there are several workers")
    add_flag(parser, "drain-ms", default="25000", text="how long running answers may go on after SIGTERM")
    add_flag(parser, "log-level", default="info", text="debug, info, warning or error")


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


def _add_create_key(parser: argparse.ArgumentParser) -> None:
    database.add_database(parser)
    add_flag(parser, "account", default=None, text="name of the account")
    add_flag(parser, "credit", default="0", text="what was paid in, in USDC; the enclave records it when it runs")
    add_flag(parser, "operator-key-file", default="", text="file with the operator's key, which signs the credit")
    add_flag(parser, "configuration", default="", text="file with the configuration, for credit: names log and key")
    add_switch(parser, "create", text="make the database if it is not there; without it, one must be")


def _add_kms_policy(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "pcrs", default=None, text="file with what `pinaivu image pcrs --json` printed of the image")
    add_flag(parser, "configuration", default=None, text="file with the configuration: names the key, the log, PCR16")
    add_flag(parser, "role", default=None, text="ARN of the IAM role of the parent instance")
    add_flag(
        parser,
        "administrator",
        default=NOT_GIVEN,
        text="ARN of the one role or user that may change the policy. Whoever can change it can open the vault",
    )
    add_switch(
        parser,
        "no-administrator",
        text="instead: nobody may ever change the policy, so no other image or configuration will open the vault",
    )


def _serve(options: argparse.Namespace) -> int:
    import uvloop

    from pinaivu_host.admin_key import read_admin_key
    from pinaivu_host.edge import EdgeSettings, allow_connections, parse_proxies, read_certificate
    from pinaivu_host.gateway.cors import parse_origins
    from pinaivu_host.gateway.recount import load_tokenizers
    from pinaivu_host.host import Host, HostSettings
    from pinaivu_host.link_address import parse_address
    from pinaivu_host.listening_address import parse_listening_address
    from pinaivu_host.server import serve
    from pinaivu_host.workers.serving import Listeners, serve_with_workers
    from pinaivu_shared.configuration import canonical_configuration
    from pinaivu_shared.key_file import read_key_file
    from pinaivu_shared.logs import configure_logging

    if not __debug__:
        raise CallerError("does not run under python -O: its assertions state invariants")
    configure_logging(options.log_level)
    configuration = canonical_configuration(read_file(options.configuration, "configuration"))
    settings = HostSettings(
        enclave=parse_address(options.enclave),
        database_url=_database_url(options),
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
    edge = EdgeSettings(
        certificate=read_certificate(options.tls_certificate, options.tls_key),
        trusted_proxies=parse_proxies(options.trusted_proxies),
        connections_max=allow_connections(_number(options.connections_max, "connections-max")),
    )
    workers = _number(options.workers, "workers")
    if (workers > 1) != bool(options.node_listen):
        raise CallerError("--node-listen goes with --workers above 1, and they with it")
    listener = _listen(options.listen, "listen")

    async def main() -> None:
        if workers <= 1:
            await serve(Host(settings), listener, edge)
            return
        with _listen(options.node_listen, "node-listen") as for_nodes:
            listeners = Listeners(listener, for_nodes)
            await serve_with_workers(Host(settings), listeners, edge, count=workers, log_level=options.log_level)

    sys.setswitchinterval(0.001)  # the journal's thread takes turns with the event loop
    with listener:
        uvloop.run(main())
    return 0


def _listen(text: str, flag: str) -> socket.socket:
    from pinaivu_host.http_server import listen

    try:
        return listen(*_host_port(text, flag))
    except OSError as error:
        raise CallerError(f"--{flag} {text}: {error.strerror}") from error


def _create_key(options: argparse.Namespace) -> int:
    import asyncio

    from pinaivu_host.store.accounts import Accounts, new_account_id
    from pinaivu_host.store.database import Database
    from pinaivu_shared.money import parse_usdc

    if not options.account.strip():
        raise CallerError("--account is empty: an account has a name")
    account_id = new_account_id()
    credit = parse_usdc(options.credit)
    deposit = operator.opening_deposit(options, account_id, credit) if credit else None
    opened = Database(_database_url(options, may_create=options.create))
    accounts = Accounts(opened)
    api_key = asyncio.run(accounts.create(name=options.account, account_id=account_id, deposit=deposit))
    opened.close()
    print(f"pinaivu host: opened {account_id}", file=sys.stderr)
    print(api_key)
    return 0


def _kms_policy(options: argparse.Namespace) -> int:
    import json

    from pinaivu_host.kms_policy import key_policy
    from pinaivu_shared.configuration import canonical_configuration
    from pinaivu_shared.enrolment import read_measurements

    administrator = _administrator(options)
    policy = key_policy(
        read_measurements(read_file(options.pcrs, "pcrs")),
        canonical_configuration(read_file(options.configuration, "configuration")),
        role=options.role,
        administrator=administrator,
    )
    print(json.dumps(policy, indent=2))
    chosen = f"{administrator} alone" if administrator is not None else "nobody, ever,"
    print(f"pinaivu host: {chosen} may change this policy once it is on the key", file=sys.stderr)
    return 0


def _administrator(options: argparse.Namespace) -> str | None:
    """Who may change the policy: a decision that cannot be taken back, so nobody takes it by leaving something out."""
    named = options.administrator is not NOT_GIVEN
    if named == options.no_administrator:
        raise CallerError("give one of --administrator ARN and --no-administrator")
    if options.administrator == "":
        raise CallerError("--administrator is empty; if nobody shall ever change the policy, say --no-administrator")
    return options.administrator if named else None


def _database_url(options: argparse.Namespace, *, may_create: bool = True) -> str:
    from pinaivu_host.store.engine import is_there

    url = database.database_url(options)
    if not may_create and not is_there(url):
        named = database.named_database(options)
        raise CallerError(f"{named}: there is no database of a host; to make one, say --create")
    return url


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
