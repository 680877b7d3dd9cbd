"""docs/credit.md: its commands run, its sums come out, its statuses, headers and numbers are those of the code."""

import re
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from tests.docs.conftest import Service
from tests.docs.pages import DOCS, blocks, section
from tests.docs.shell import run_blocks

from pinaivu_enclave.core.limits import Prices, full_limits
from pinaivu_host.gateway import error_table, idempotency
from pinaivu_host.gateway.idempotency_key import KEY_CHARACTERS_MAX
from pinaivu_host.host import HostSettings
from pinaivu_host.store.idempotency import KEPT_MS
from pinaivu_shared.money import charge_on, fee_on, parse_usdc
from pinaivu_shared.receipt import Receipt, ReceiptAuction
from pinaivu_shared.wire.link import OpenJob

PAGE = DOCS / "credit.md"
(COMMANDS,) = blocks(section(PAGE, "An account and its credit"), "sh")
(TWICE,) = blocks(section(PAGE, "`Idempotency-Key`"), "python")
(KEYS,) = blocks(section(PAGE, "Keys"), "sh")
PAID_IN = parse_usdc("4.000000")
ABOUT_40_TOKENS = "a " * 40


def table_rows(text: str) -> list[list[str]]:
    """The rows of the tables in this text, their headings among them."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in lines if "---" not in row[0]]


def admin(service: Service) -> httpx.Client:
    headers = {"authorization": f"Bearer {service.operators['ADMIN_KEY']}"}
    return httpx.Client(base_url=f"{service.given['SERVICE']}/admin/v1", headers=headers, trust_env=False)


def customer(service: Service, api_key: str) -> httpx.Client:
    headers = {"authorization": f"Bearer {api_key}"}
    return httpx.Client(base_url=f"{service.given['SERVICE']}/v1", headers=headers, trust_env=False)


def receipt_of(client: httpx.Client, request_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/receipts/{request_id}").json()
    return found


def test_the_commands_open_an_account_and_asking_twice_is_charged_once(service: Service, tmp_path: Path) -> None:
    (tmp_path / ".pinaivu").symlink_to(service.folder)
    (tmp_path / "twice.py").write_text(TWICE.replace("pinaivu-tiny", "echo"))
    commands = COMMANDS.replace("http://127.0.0.1:8080", service.given["SERVICE"])
    ended = run_blocks([commands, f'{sys.executable} twice.py; echo "$ACCOUNT $OPENAI_API_KEY"'], tmp_path, {})
    assert ended.returncode == 0, ended.stderr
    state, credit, request_id, replayed, again, replayed_again, account_id, api_key = ended.stdout.split()
    assert (state, parse_usdc(credit)) == ("recorded", PAID_IN)
    assert (request_id, replayed, replayed_again) == (again, "false", "true")
    with admin(service) as operator, customer(service, api_key) as client:
        left = parse_usdc(operator.get(f"/accounts/{account_id}").json()["credit"])
        receipt = receipt_of(client, request_id)
    assert receipt["account"] == account_id
    assert left == PAID_IN - parse_usdc(receipt["charge_amount"]) < PAID_IN


def test_the_commands_make_a_key_for_one_model(service: Service, tmp_path: Path) -> None:
    (tmp_path / ".pinaivu").symlink_to(service.folder)
    commands = COMMANDS.replace("http://127.0.0.1:8080", service.given["SERVICE"]).replace("invoice-1", "invoice-2")
    ended = run_blocks([commands, KEYS, 'echo "$OPENAI_API_KEY"'], tmp_path, {})
    assert ended.returncode == 0, ended.stderr
    *_, made, first, api_key = ended.stdout.splitlines()
    assert sorted(line.split("  ")[-1].strip() for line in (made, first)) == ["my application", "nightly report"]
    with customer(service, api_key) as client:
        body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
        assert client.post("/chat/completions", json=body).json()["error"]["code"] == "model_not_allowed"


def test_every_code_of_the_table_of_keys_is_the_codes_own() -> None:
    rows = table_rows(section(PAGE, "Keys"))[1:]
    said = {tuple(cell.replace("`", "").split()) for row in rows for cell in row[1:]} - {("yes",)}
    kinds = (
        error_table.MODEL_NOT_ALLOWED,
        error_table.PERMISSION_DENIED,
        error_table.KEY_DISABLED,
        error_table.INVALID_API_KEY,
    )
    assert said == {(str(kind.status), kind.code) for kind in kinds}


def test_the_last_of_the_credit_buys_a_shorter_answer_that_says_so(service: Service) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": ABOUT_40_TOKENS}]}
    with admin(service) as operator:
        made = operator.post("/accounts", json={"name": "short", "credit": "0.000005"}).json()
    with customer(service, made["api_key"]) as client:
        answer = client.post("/chat/completions", json=body)
        receipt = receipt_of(client, answer.headers["x-request-id"])
        refused = client.post("/chat/completions", json=body)
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert (receipt["outcome"], receipt["reason"]) == ("completed", "credit_limit")
    assert receipt["completion_tokens"] == answer.json()["usage"]["completion_tokens"]
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")


def test_what_is_held_is_what_the_enclave_holds() -> None:
    text = " ".join(section(PAGE, "What a request holds").split())
    assert "800 bytes, at list prices of 40000 and 120000 micro-USDC per million tokens, a context of 8192, an" in text
    assert "allowance of 64 and a fee of 500 basis points" in text
    shown = table_rows(section(PAGE, "What a request holds"))[1:]
    assert len(shown) == 2
    for limit, tokens, held in shown:
        job = OpenJob(
            *("r", "a", "m", "", ""),
            request_bytes=800,
            max_tokens=0 if limit == "none" else int(limit),
            needs=("chat",),
            may_be_empty=False,
        )
        limits = full_limits(job, context_length=8192, template_allowance=64)
        assert tokens == f"{limits.prompt} + {limits.completion}"
        assert int(held) == charge_on(Prices(40_000, 120_000).cap(limits), 500)


def test_the_charges_are_those_of_the_ledger() -> None:
    shown = table_rows(section(PAGE, "What it is charged"))[1:]
    assert ["3", "1", "4"] in shown
    for payment, fee, charge in shown:
        assert (int(fee), int(charge)) == (fee_on(int(payment), 500), charge_on(int(payment), 500))


def test_both_forms_of_insufficient_credit_have_the_headers_that_are_told() -> None:
    table = table_rows(section(PAGE, "429 `insufficient_credit`"))
    told = {row[0].strip("`").lower(): [cell.strip("`") for cell in row[1:]] for row in table}
    for place, kind in enumerate((error_table.INSUFFICIENT_CREDIT, error_table.CREDIT_HELD)):
        assert (kind.status, kind.code) == (429, "insufficient_credit")
        for name in ("retry-after", "x-should-retry"):
            assert told[name][place] == dict(kind.headers).get(name, "absent")
    (default,) = [field.default for field in HostSettings.__dataclass_fields__.values() if field.name == "queue_ms"]
    assert f"(`--queue-ms`, {default})" in told["what happened"][1]


def test_the_errors_of_idempotency_keys_are_those_of_the_gateway() -> None:
    kinds = {
        (kind.status, kind.code): kind for kind in vars(error_table).values() if isinstance(kind, error_table.ErrorKind)
    }
    shown = table_rows(section(PAGE, "`Idempotency-Key`"))[1:]
    assert len(shown) == 6
    for name, meaning in shown:
        status, code = re.fullmatch(r"(\d+) `([a-z_]+)`", name).groups()  # type: ignore[union-attr]  # it must match
        kind = kinds[int(status), code]
        assert ("x-should-retry: false" in meaning) == (code == "idempotency_conflict"), "told where it matters"
        assert ("Retry-After: 1" not in meaning) or ("retry-after", "1") in kind.headers


@pytest.mark.parametrize(
    "said",
    [
        f"not 1 to {KEY_CHARACTERS_MAX} printable ASCII characters",
        f"has {idempotency.KEYS_MAX} keys, or {idempotency.STORED_BYTES_MAX >> 30} GiB of answers, within 24 hours",
        f"For {KEPT_MS // 3_600_000} hours",
        f"at most {({300: 'five'})[int(idempotency.CLEANING_INTERVAL_S)]} minutes after",
    ],
)
def test_the_numbers_of_idempotency_keys_are_those_of_the_code(said: str) -> None:
    assert said in " ".join(section(PAGE, "`Idempotency-Key`").split())


def test_every_field_of_a_receipt_that_is_named_is_one() -> None:
    shown = table_rows(section(PAGE, "What the receipt says was spent"))[1:]
    named = {name for row in shown for name in re.findall(r"`([a-z_.]+)`", row[0])}
    fields = {field.name for field in msgspec.structs.fields(Receipt)}
    fields |= {f"auction.{field.name}" for field in msgspec.structs.fields(ReceiptAuction)}
    assert {"charge_amount", "auction.input_price"} < named <= fields
