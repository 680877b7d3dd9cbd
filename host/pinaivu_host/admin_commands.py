"""`pinaivu accounts` and `pinaivu keys`: the operator's accounts, credit and API keys, by the admin API of a host."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pinaivu_shared.errors import CallerError, PinaivuError
from pinaivu_shared.flags import NOT_GIVEN, add_flag, add_switch, parse_command

if TYPE_CHECKING:
    from pinaivu_host.admin_client import AdminClient, Answer

USAGE = 2
PAGE = 1000
Commands = Any  # argparse has no public name for what add_subparsers returns
Command = Callable[["AdminClient", argparse.Namespace], int]

ACCOUNTS = """\
Open and look at accounts, and give them credit, by the admin API of a running host. An account's first key, and what
it may do, is unrestricted; `pinaivu keys` makes others."""

KEYS = """\
Make, list, change and revoke the API keys of an account, by the admin API of a running host. A key is printed once,
when it is made; afterwards its key_id names it. A key that is revoked or has expired stops within a second."""

NONE, ALL = "none", "all"
COUNTS = {
    "requests-per-minute": "how many requests a minute it may send",
    "tokens-per-minute": "how many tokens a minute its requests may use, prompts and answers together",
    "concurrent-requests": "how many of its requests may run at once",
}


def accounts(arguments: list[str]) -> int:
    """Exit 0 when done, 2 where the host refuses, is not there, or usage is wrong."""
    parser = argparse.ArgumentParser(prog="pinaivu accounts", description=ACCOUNTS)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    create = _add_command(commands, "create", "open an account and print its first API key, once")
    add_flag(create, "name", default=None, text="whom it is for")
    add_flag(create, "credit", default="0", text="what was paid in, in USDC")
    show = _add_command(commands, "show", "print an account's credit")
    show.add_argument("account", metavar="ACCOUNT", help="its id, acct_…")
    _add_command(commands, "list", "print all accounts, oldest first: id, credit in USDC, name")
    deposit = _add_command(commands, "deposit", "give an account credit")
    deposit.add_argument("account", metavar="ACCOUNT", help="its id, acct_…")
    add_flag(deposit, "amount", default=None, text="in USDC")
    add_flag(deposit, "reference", default="", text="your own name for it, under which it counts once; one is made up")
    add_flag(deposit, "fund", default="deposits", text="`deposits` was paid in, `promotions` is a gift")
    runs = {"create": _create_account, "show": _show_account, "list": _list_accounts, "deposit": _deposit}
    return _run("accounts", parse_command(parser, arguments), runs)


def keys(arguments: list[str]) -> int:
    """Exit 0 when done, 2 where the host refuses, is not there, or usage is wrong."""
    parser = argparse.ArgumentParser(prog="pinaivu keys", description=KEYS)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    create = _add_command(commands, "create", "print a new API key of an account, once")
    create.add_argument("account", metavar="ACCOUNT", help="the account's id, acct_…")
    add_flag(create, "name", default=None, text="what it is for")
    add_flag(create, "expires-in-days", default=NOT_GIVEN, text="how long it works; without it, until it is revoked")
    add_flag(create, "models", default=NOT_GIVEN, text="MODEL,…: those that it may ask for; without it, all")
    _add_limits(create, "without it, no limit")
    add_flag(create, "permission", default="full", text="`read_only` may look at models and receipts, and ask nothing")
    listed = _add_command(commands, "list", "print an account's keys, newest first: id, beginning, state, name")
    listed.add_argument("account", metavar="ACCOUNT", help="the account's id, acct_…")
    change = _add_command(commands, "change", "give a key another name, models, expiry or limits; the rest stays")
    change.add_argument("key", metavar="KEY", help="the key's id, key_…; never the key itself")
    add_flag(change, "name", default=NOT_GIVEN, text="what it is for")
    add_flag(
        change,
        "expires-in-days",
        default=NOT_GIVEN,
        text="how long it works from now on; `none`: until it is revoked",
    )
    add_flag(change, "models", default=NOT_GIVEN, text="MODEL,…: those that it may ask for; `all`: all")
    _add_limits(change, "`none`: no limit")
    revoke = _add_command(commands, "revoke", "take a key out of use for good")
    revoke.add_argument("key", metavar="KEY", help="the key's id, key_…; never the key itself")
    runs = {"create": _create_key, "list": _list_keys, "change": _change_key, "revoke": _revoke}
    return _run("keys", parse_command(parser, arguments), runs)


def _add_limits(parser: argparse.ArgumentParser, otherwise: str) -> None:
    for name, text in COUNTS.items():
        add_flag(parser, name, default=NOT_GIVEN, text=f"{text}; {otherwise}")
    add_flag(
        parser, "monthly-budget", default=NOT_GIVEN, text=f"what it may spend in a UTC month, in USDC; {otherwise}"
    )


def _add_command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    add_flag(parser, "url", default="http://127.0.0.1:8080", text="the host, without /v1; http for this machine only")
    add_flag(parser, "admin-key-file", default=None, text="file with the key of /admin/v1/")
    add_switch(parser, "json", text="print what the host answers: one object, of a list one per line")
    return parser


def _run(program: str, options: argparse.Namespace, runs: Mapping[str, Command]) -> int:
    from pinaivu_host.admin_client import AdminClient
    from pinaivu_host.admin_key import read_admin_key

    try:
        return runs[options.command](AdminClient(options.url, read_admin_key(options.admin_key_file)), options)
    except PinaivuError as error:
        print(f"pinaivu {program}: {error}", file=sys.stderr)
        return USAGE


def _create_account(client: "AdminClient", options: argparse.Namespace) -> int:
    made = client.post("/accounts", {"name": options.name, "credit": options.credit})
    _say(f"accounts: opened {made['account_id']}")
    _print(options, [made], lambda one: one["api_key"])
    return 0


def _show_account(client: "AdminClient", options: argparse.Namespace) -> int:
    _print(options, [client.get(f"/accounts/{_named(options.account, 'ACCOUNT')}")], lambda one: one["credit"])
    return 0


def _list_accounts(client: "AdminClient", options: argparse.Namespace) -> int:
    for page in _pages(client):
        _print(options, page, lambda one: f"{one['account_id']}  {one['credit']:>20}  {_shown(one['name'])}")
    return 0


def _pages(client: "AdminClient") -> Iterator[Sequence["Answer"]]:
    page = client.get(f"/accounts?limit={PAGE}")
    yield page["data"]
    while page["has_more"]:
        page = client.get(f"/accounts?limit={PAGE}&after={page['data'][-1]['account_id']}")
        yield page["data"]


def _deposit(client: "AdminClient", options: argparse.Namespace) -> int:
    wanted = {"amount": options.amount, "fund": options.fund}
    if options.reference:
        wanted["reference"] = options.reference
    order = client.post(f"/accounts/{_named(options.account, 'ACCOUNT')}/deposits", wanted)
    if order["state"] == "pending":
        _say("accounts: the order is kept, and counts once the enclave has recorded it")
    _print(options, [order], lambda one: f"{one['reference']}  {one['state']}")
    return 0


def _create_key(client: "AdminClient", options: argparse.Namespace) -> int:
    wanted = {"name": options.name, "permission": options.permission, **_terms(options)}
    made = client.post(f"/accounts/{_named(options.account, 'ACCOUNT')}/keys", wanted)
    _say(f"keys: made {made['key_id']}")
    _print(options, [made], lambda one: one["api_key"])
    return 0


def _change_key(client: "AdminClient", options: argparse.Namespace) -> int:
    key_id, wanted = _key_id(options), _terms(options)
    if options.name is not NOT_GIVEN:
        wanted["name"] = _not_empty(options.name, "name", "give a name, or leave it out")
    if not wanted:
        raise CallerError("nothing to change: give --name, --models, --expires-in-days or a limit")
    _print(options, [client.patch(f"/keys/{key_id}", wanted)], _key_line)
    return 0


def _terms(options: argparse.Namespace) -> dict[str, object]:
    """The fields of the admin API for the flags that were given; null where nothing shall hold the key back."""
    wanted: dict[str, object] = {}
    for name in ("models", "expires-in-days", *COUNTS, "monthly-budget"):
        text = getattr(options, name.replace("-", "_"))
        if text is not NOT_GIVEN:
            wanted[name.replace("-", "_")] = _term(name, _not_empty(text, name, _way_out(options.command, name)))
    return wanted


def _way_out(command: str, name: str) -> str:
    """How to say that a key has no such term; an empty flag does not, since an unset variable makes one."""
    if command == "create":
        return f"leave it out for a key {'that may ask for all models' if name == 'models' else 'without one'}"
    return f"give `{ALL if name == 'models' else NONE}`, or leave it out where it shall stay"


def _term(name: str, text: str) -> object:
    from pinaivu_shared.money import parse_usdc

    if name == "models":
        return _models(text)
    if text == NONE:
        return None
    try:
        return parse_usdc(text) if name == "monthly-budget" else _count(text)
    except ValueError as error:
        raise CallerError(f"--{name}: {error}") from None


def _models(text: str) -> list[str] | None:
    if text == NONE:
        raise CallerError(f"--models {NONE}: a key without a model could ask nothing; for all of them say `{ALL}`")
    models = text.split(",")
    if "" in models:
        raise CallerError(f"--models {text[:200]!r} names a model of no characters; expected MODEL,…")
    return None if text == ALL else models


def _not_empty(text: str, name: str, way_out: str) -> str:
    if not text:
        raise CallerError(f"--{name} is empty: {way_out}")
    return text


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise ValueError(f"{text[:40]!r} is no number")
    return int(text[:18])


def _list_keys(client: "AdminClient", options: argparse.Namespace) -> int:
    found = client.get(f"/accounts/{_named(options.account, 'ACCOUNT')}/keys")["data"]
    _print(options, found, _key_line)
    return 0


def _revoke(client: "AdminClient", options: argparse.Namespace) -> int:
    revoked = client.delete(f"/keys/{_key_id(options)}")
    _print(options, [revoked], lambda one: f"{one['key_id']}  {_state(one)}")
    return 0


def _key_id(options: argparse.Namespace) -> str:
    if options.key.startswith("sk-"):
        raise CallerError("KEY is the key's id, key_…; `pinaivu keys list` shows it beside the key's beginning")
    return _named(options.key, "KEY")


def _key_line(key: "Answer") -> str:
    parts = [key["key_id"], f"{key['prefix']}…", f"{_state(key):9}", _terms_of(key), _shown(key["name"])]
    return "  ".join(part for part in parts if part)


def _terms_of(key: "Answer") -> str:
    from pinaivu_shared.money import format_usdc

    shown = {
        "requests_per_minute": "{} requests/min",
        "tokens_per_minute": "{} tokens/min",
        "concurrent_requests": "{} at once",
    }
    terms = [text.format(key[name]) for name, text in shown.items() if key[name] is not None]
    if key["monthly_budget"] is not None:
        terms.append(f"{format_usdc(key['monthly_budget'])}/month")
    if key["models"]:
        terms.append(f"only {_shown(' '.join(key['models']))}")
    if key["expires_ms"] is not None:
        terms.append(f"until {datetime.fromtimestamp(key['expires_ms'] / 1000, UTC):%Y-%m-%d %H:%M} UTC")
    return ", ".join(terms)


def _state(key: "Answer") -> str:
    from pinaivu_host.clock import now_ms

    if key["revoked_ms"] is not None:
        return "revoked"
    expired = key["expires_ms"] is not None and key["expires_ms"] <= now_ms()
    return "expired" if expired else str(key["permission"])


def _named(text: str, name: str) -> str:
    """An id as part of a path."""
    if not text:
        raise CallerError(f"{name} is empty: an id is expected")
    return quote(text, safe="")


def _print(options: argparse.Namespace, found: Sequence["Answer"], line: Callable[["Answer"], str]) -> None:
    for one in found:
        print(json.dumps(one) if options.json else line(one))


def _shown(name: str) -> str:
    """A name on a terminal, which it must not be able to steer."""
    return name if name.isprintable() else ascii(name)


def _say(text: str) -> None:
    print(f"pinaivu {text}", file=sys.stderr)
