"""`pinaivu host create-operator-key` and `sign-order`: what an operator does on a machine of his own, offline."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinaivu_host.flag_file import read_flag_file
from pinaivu_shared.errors import CallerError
from pinaivu_shared.flags import add_flag

if TYPE_CHECKING:
    from pinaivu_host.operator_orders import OperatorKey
    from pinaivu_shared.signed import Signed

Commands = Any  # argparse has no public name for what add_subparsers returns

CREATE_KEY = """\
Make the operator's key and print its public half in hex, for `operator_key` of the configuration. Whoever holds the
file can give credit to any account, for everybody to see in the log. Keep it away from the host if you can, and sign
orders where it is (`pinaivu host sign-order`)."""

SIGN_ORDER = """\
Print an order of the operator, signed, as JSON for `POST /admin/v1/orders`: a deposit with --account, a payout with
--node-id. It counts once for its reference, however often it is handed in. Needs no network."""


def add_create_operator_key(commands: Commands) -> None:
    """Declare `create-operator-key`."""
    text = "make the key that signs deposits and payouts, and print its public half"
    parser = commands.add_parser("create-operator-key", help=text, description=CREATE_KEY)
    add_flag(parser, "output", default=None, text="the file to make; one that is there is never overwritten")


def create_operator_key(options: argparse.Namespace) -> int:
    """Exit 0 with the public key on stdout."""
    from pinaivu_shared.key_file import make_key_file, public_bytes, read_key_file

    path = Path(options.output)
    if not make_key_file(path):
        raise CallerError(f"--output {path}: is there already, and a key is never overwritten")
    print(public_bytes(read_key_file(path)).hex())
    return 0


def add_sign_order(commands: Commands) -> None:
    """Declare `sign-order`."""
    text = "sign a deposit or a payout, to be handed in elsewhere"
    parser = commands.add_parser("sign-order", help=text, description=SIGN_ORDER)
    add_flag(parser, "operator-key-file", default=None, text="file with the operator's key")
    add_flag(parser, "configuration", default=None, text="file with the configuration: names log and key")
    add_flag(parser, "reference", default=None, text="your own name for it, for each order another")
    add_flag(parser, "amount", default=None, text="in USDC")
    add_flag(parser, "account", default="", text="a deposit: the account that gets the credit")
    add_flag(parser, "fund", default="deposits", text="a deposit: `deposits` was paid in, `promotions` is a gift")
    add_flag(parser, "node-id", default="", text="a payout: the node that was paid")


def sign_order(options: argparse.Namespace) -> int:
    """Exit 0 with the signed order on stdout."""
    import base64
    import json

    signed = _signed(options)
    print(json.dumps({"order": base64.b64encode(signed.payload).decode(), "signature": signed.signature.hex()}))
    return 0


def opening_deposit(options: argparse.Namespace, account_id: str, credit: int) -> "Signed":
    """The deposit that a new account begins with."""
    for name in ("operator-key-file", "configuration"):
        if not vars(options)[name.replace("-", "_")]:
            raise CallerError(f"--credit needs --{name}: credit is a deposit that the operator signs")
    return load_operator_key(options).opening_deposit(account=account_id, amount=credit)


def load_operator_key(options: argparse.Namespace) -> "OperatorKey":
    """The key of --operator-key-file, which must be the one of --configuration."""
    from pinaivu_host.operator_orders import OperatorKey
    from pinaivu_shared.configuration import canonical_configuration, parse_configuration
    from pinaivu_shared.key_file import read_key_file

    configuration = canonical_configuration(read_flag_file(options.configuration, "configuration"))
    return OperatorKey(read_key_file(Path(options.operator_key_file)), parse_configuration(configuration))


def _signed(options: argparse.Namespace) -> "Signed":
    from pinaivu_shared.money import parse_usdc

    if bool(options.account) == bool(options.node_id):
        raise CallerError("give one of --account (a deposit) and --node-id (a payout)")
    if options.fund not in {"deposits", "promotions"}:
        raise CallerError(f"--fund: {options.fund[:40]!r} is neither deposits nor promotions")
    key, amount = load_operator_key(options), parse_usdc(options.amount)
    if options.node_id:
        return key.payout(reference=options.reference, node_id=options.node_id, amount=amount)
    return key.deposit(reference=options.reference, account=options.account, amount=amount, fund=options.fund)
