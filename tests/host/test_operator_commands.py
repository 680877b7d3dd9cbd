"""The operator's commands: a key that is made once, orders that are signed offline, credit that a new account gets."""

import base64
import json
import sqlite3
import stat
from pathlib import Path

import msgspec
import pytest
from tests.host.town import CONFIGURATION

from pinaivu_host.cli import host
from pinaivu_host.operator_orders import verify_order
from pinaivu_shared.canonical import encode
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.signed import Signed
from pinaivu_shared.terms import Deposit, Payout

ACCOUNT = "acct_" + "a" * 32
NODE = "node_" + "5" * 32


class Desk:
    """A folder with the operator's key and the configuration that names it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.key, self.place = folder / "operator.key", folder / "configuration.json"
        assert self.run("create-operator-key", "--output", str(self.key)) == 0
        self.public_key = self.out.strip()
        self.configuration: Configuration = msgspec.structs.replace(CONFIGURATION, operator_key=self.public_key)
        self.place.write_bytes(encode(self.configuration))

    def run(self, *arguments: str) -> int:
        status = host(list(arguments))
        self.out, self.err = self._capsys.readouterr()
        return status

    def sign(self, *arguments: str, **changes: str) -> int:
        given = {
            "operator-key-file": str(self.key),
            "configuration": str(self.place),
            "reference": "r-1",
            "amount": "2.5",
        }
        changed = {name.replace("_", "-"): text for name, text in changes.items()}
        flags = [part for name, text in (given | changed).items() for part in (f"--{name}", text)]
        return self.run("sign-order", *flags, *arguments)

    def create_key(self, *arguments: str) -> int:
        data = ("--create", "--data-dir", str(self.folder / "data"))
        return self.run("create-key", *data, "--account", "ann", *arguments)

    def order(self) -> Deposit | Payout:
        """What was printed, once its signature holds."""
        printed = json.loads(self.out)
        signed = Signed(base64.b64decode(printed["order"]), bytes.fromhex(printed["signature"]))
        return verify_order(signed, self.configuration)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_a_key_is_for_its_owners_eyes_and_its_public_half_is_printed(desk: Desk) -> None:
    assert stat.S_IMODE(desk.key.stat().st_mode) == 0o600
    assert len(bytes.fromhex(desk.public_key)) == 32
    assert "PRIVATE" not in desk.out + desk.err


def test_a_key_is_never_overwritten(desk: Desk) -> None:
    before = desk.key.read_bytes()
    assert desk.run("create-operator-key", "--output", str(desk.key)) == 2
    assert desk.key.read_bytes() == before
    assert desk.out == ""
    assert "never overwritten" in desk.err


def test_a_key_in_a_folder_that_is_not_there_is_said(desk: Desk) -> None:
    assert desk.run("create-operator-key", "--output", str(desk.folder / "missing" / "key")) == 2
    assert "No such file or directory" in desk.err


def test_a_deposit_is_signed_for_the_log_of_the_configuration(desk: Desk) -> None:
    assert desk.sign("--account", ACCOUNT) == 0
    terms = {"origin": CONFIGURATION.origin, "reference": "r-1", "account": ACCOUNT, "amount": 2_500_000}
    assert desk.order() == Deposit(**terms, fund="deposits")  # type: ignore[arg-type]  # a dict of several types
    assert desk.sign("--account", ACCOUNT, "--fund", "promotions") == 0
    assert desk.order() == Deposit(**terms, fund="promotions")  # type: ignore[arg-type]  # as above


def test_a_payout_is_signed_for_a_node(desk: Desk) -> None:
    assert desk.sign("--node-id", NODE) == 0
    assert desk.order() == Payout(origin=CONFIGURATION.origin, reference="r-1", node_id=NODE, amount=2_500_000)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "give one of --account (a deposit) and --node-id (a payout)"),
        ({"account": ACCOUNT, "node_id": NODE}, "give one of --account"),
        ({"account": "ann"}, "order: "),
        ({"node_id": "mine"}, "order: "),
        ({"account": ACCOUNT, "amount": "0"}, "order: "),
        ({"account": ACCOUNT, "amount": "-1"}, "'-1' is no amount"),
        ({"account": ACCOUNT, "amount": "1000000001"}, "order: "),
        ({"account": ACCOUNT, "reference": ""}, "order: "),
        ({"account": ACCOUNT, "reference": "two words"}, "order: "),
        ({"account": ACCOUNT, "fund": "gifts"}, "--fund: 'gifts' is neither deposits nor promotions"),
        ({"account": ACCOUNT, "operator_key_file": "missing"}, "missing: No such file or directory"),
        ({"account": ACCOUNT, "configuration": "missing"}, "--configuration missing: No such file or directory"),
    ],
    ids=str,
)
def test_what_is_no_order_is_not_signed(desk: Desk, changes: dict[str, str], said: str) -> None:
    assert desk.sign(**changes) == 2
    assert (desk.out, desk.err.count("\n")) == ("", 1)
    assert said in desk.err


def test_a_key_that_is_not_the_configurations_signs_nothing(desk: Desk) -> None:
    other = desk.folder / "other.key"
    assert desk.run("create-operator-key", "--output", str(other)) == 0
    assert desk.sign("--account", ACCOUNT, operator_key_file=str(other)) == 2
    assert f"the configuration names {desk.public_key}" in desk.err


def test_a_key_that_others_can_read_signs_nothing(desk: Desk) -> None:
    desk.key.chmod(0o644)
    assert desk.sign("--account", ACCOUNT) == 2
    assert "chmod 600" in desk.err


def test_the_credit_of_a_new_account_waits_in_the_outbox(desk: Desk) -> None:
    signing = ("--operator-key-file", str(desk.key), "--configuration", str(desk.place))
    assert desk.create_key("--credit", "3", *signing) == 0
    assert desk.out.startswith("sk-pnv-")
    account_id = desk.err.split()[-1]
    database = sqlite3.connect(desk.folder / "data" / "host.sqlite")
    ((payload, signature, leaf_index),) = database.execute("SELECT payload, signature, leaf_index FROM orders")
    database.close()
    order = verify_order(Signed(payload, signature), desk.configuration)
    assert isinstance(order, Deposit)
    assert (order.account, order.amount, leaf_index) == (account_id, 3_000_000, None)


@pytest.mark.parametrize("left_out", ["--operator-key-file", "--configuration"])
def test_credit_that_nobody_signs_opens_no_account(desk: Desk, left_out: str) -> None:
    signing = {"--operator-key-file": str(desk.key), "--configuration": str(desk.place)}
    del signing[left_out]
    assert desk.create_key("--credit", "3", *(part for pair in signing.items() for part in pair)) == 2
    assert f"--credit needs {left_out}" in desk.err
    assert not (desk.folder / "data").exists()


def test_an_account_without_credit_needs_no_key(desk: Desk) -> None:
    assert desk.create_key() == 0
    assert desk.out.startswith("sk-pnv-")
