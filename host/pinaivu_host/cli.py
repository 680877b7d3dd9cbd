"""`pinaivu host`: serve the gateway, create the first key, sign orders, write the policy of the KMS key."""

import argparse
import sys

from pinaivu_host import database_commands as database
from pinaivu_host import operator_commands as operator
from pinaivu_host import serve_commands as serving
from pinaivu_host.flag_file import read_flag_file
from pinaivu_shared.errors import CallerError, PinaivuError
from pinaivu_shared.flags import NOT_GIVEN, add_flag, add_switch, parse_command

USAGE = 2
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
    serving.add_serve(commands)
    _add_create_key(commands.add_parser("create-key", help="open an account and print its API key, once"))
    operator.add_create_operator_key(commands)
    operator.add_sign_order(commands)
    database.add_backup(commands)
    database.add_restore(commands)
    database.add_rebuild(commands)
    _add_kms_policy(commands.add_parser("kms-policy", help="print the policy of the KMS key", description=KMS_POLICY))
    options = parse_command(parser, arguments)
    runs = {
        "serve": serving.serve,
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
    find = database.database_url if options.create else database.existing_database_url
    opened = Database(find(options))
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
        read_measurements(read_flag_file(options.pcrs, "pcrs")),
        canonical_configuration(read_flag_file(options.configuration, "configuration")),
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
