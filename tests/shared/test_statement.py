"""Statements offline: what is genuine is valid; tampering is refused under its name, and so are signed wrong books."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st
from tests.shared.evidence import Evidence
from tests.shared.statements import Json, Stated, inclusion

from pinaivu_shared.errors import UnreadableError, VerificationError
from pinaivu_shared.leaves import StatementLeaf, sign_leaf, sign_statement
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.statement import VerifiedStatement, parse_statement, verify_statement
from pinaivu_shared.trust import parse_trust

STATED = Stated()
GENUINE = STATED.evidence()
TEXT = json.dumps(GENUINE.bundle).encode()
Path = tuple[str | int, ...]


def judge(evidence: Evidence) -> VerifiedStatement:
    trust = parse_trust(json.dumps(evidence.trust).encode())
    return verify_statement(parse_statement(json.dumps(evidence.bundle).encode()), trust)


def failing_check(evidence: Evidence) -> str:
    with pytest.raises(VerificationError) as caught:
        judge(evidence)
    return caught.value.check


def tampered(change: Callable[[Json], object]) -> Evidence:
    bundle = copy.deepcopy(GENUINE.bundle)
    change(bundle)
    return Evidence(bundle, GENUINE.trust)


def test_a_genuine_statement_is_valid_and_sums_receipts_of_two_epochs() -> None:
    verified = judge(GENUINE)
    assert verified.statement == STATED.leaf
    assert len(verified.receipts) == 4
    assert len({receipt.coordinator_key for receipt in verified.receipts}) == 2
    assert verified.statement.amount == sum(parse_usdc(receipt.payment_amount) for receipt in verified.receipts) > 0
    assert verified.epoch.manifest.epoch == 2
    assert verified.inclusion.index == STATED.leaf.index


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every string and number in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield path
    for name, one in inner or ():
        yield from places(one, (*path, name))


def change_at(path: Path, change: Callable[[Any], Any]) -> Callable[[Json], None]:
    def apply(bundle: Json) -> None:
        inner: Any = bundle
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = change(inner[path[-1]])

    return apply


def another(value: Any) -> Any:
    """A value of the same type that differs in one place."""
    if isinstance(value, int):
        return value + 1
    return value[:-1] + ("1" if value[-1:] != "1" else "2")


def constantly(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


SIGNED_FIELDS = [path for path in places(GENUINE.bundle) if path[0] != "proof" and path[-1] != "attestation"]


@pytest.mark.parametrize("path", SIGNED_FIELDS, ids=lambda path: ".".join(map(str, path)))
def test_any_field_changed_is_refused(path: Path) -> None:
    failing_check(tampered(change_at(path, another)))


@pytest.mark.parametrize("path", [("epochs", 0, "attestation"), ("epochs", 1, "attestation"), ("proof",)])
def test_any_byte_of_documents_and_inclusion_proof_changed_is_refused(path: Path) -> None:
    text: Any = GENUINE.bundle
    for step in path:
        text = text[step]
    for place in random.Random(3).sample(range(len(text)), 40):
        altered = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        failing_check(tampered(change_at(path, constantly(altered))))


TAMPERED: list[tuple[str, Callable[[Json], object], str]] = [
    ("the amount raised", change_at(("statement", "amount"), another), "leaf signature"),
    ("another number", change_at(("statement", "number"), another), "leaf signature"),
    ("what is payable raised", change_at(("statement", "payable"), another), "leaf signature"),
    ("the node exchanged", change_at(("statement", "node_id"), another), "leaf signature"),
    ("the receipts' order", change_at(("statement", "receipts"), lambda found: found[::-1]), "leaf signature"),
    ("a settlement signature changed", change_at(("statement", "settlement_signature"), another), "leaf signature"),
    ("no settlement signature", change_at(("statement", "settlement_signature"), lambda _: ""), "leaf signature"),
    ("a leaf signature in capitals", change_at(("statement", "coordinator_signature"), str.upper), "leaf signature"),
    ("the statement's epoch left out", lambda bundle: bundle["epochs"].pop(1), "leaf signature"),
    ("no epochs", lambda bundle: bundle["epochs"].clear(), "leaf signature"),
    ("a receipt's epoch left out", lambda bundle: bundle["epochs"].pop(0), "epoch"),
    ("another document on a receipt", change_at(("receipts", 0, "attestation"), another), "epoch"),
    ("another key on a receipt", change_at(("receipts", 0, "coordinator_key"), another), "epoch"),
    ("a manifest of another epoch", change_at(("epochs", 0, "manifest", "epoch"), another), "attestation manifest"),
    ("another settlement key", change_at(("epochs", 1, "manifest", "settlement_key"), another), "attestation manifest"),
    ("a configuration altered", change_at(("epochs", 0, "configuration", "fee_bps"), another), "configuration"),
    ("no base64", change_at(("epochs", 0, "attestation"), lambda text: text + "!"), "attestation document"),
    ("another index", change_at(("proof",), lambda text: text.replace("index ", "index 1", 1)), "inclusion proof"),
    ("a checkpoint without signature", change_at(("proof",), lambda text: text.rsplit("—", 1)[0]), "checkpoint"),
    ("a proof that is none", change_at(("proof",), lambda _: "c2sp"), "log proof"),
    ("a payment raised", change_at(("receipts", 1, "payment_amount"), lambda _: "1.000000 USDC"), "receipt signature"),
    ("a receipt left out", lambda bundle: bundle["receipts"].pop(), "receipts"),
    ("no receipts", lambda bundle: bundle["receipts"].clear(), "receipts"),
    ("a receipt twice", lambda bundle: bundle["receipts"].append(bundle["receipts"][0]), "receipts"),
    ("receipts in another order", lambda bundle: bundle["receipts"].reverse(), "receipts"),
    ("one receipt for another", lambda bundle: bundle["receipts"].insert(0, bundle["receipts"].pop()), "receipts"),
    ("a part added", lambda bundle: bundle.update(extra=1), "statement bundle"),
    ("a part removed", lambda bundle: bundle.pop("receipts"), "statement bundle"),
    ("a field of the statement added", lambda bundle: bundle["statement"].update(extra=1), "statement bundle"),
    ("a field of the statement removed", lambda bundle: bundle["statement"].pop("payable"), "statement bundle"),
    ("a leaf of another type", change_at(("statement", "type"), lambda _: "suspension"), "statement bundle"),
    ("true for a number", change_at(("statement", "amount"), lambda _: True), "statement bundle"),
    ("a float for a number", change_at(("statement", "amount"), float), "statement bundle"),
    ("a negative amount", change_at(("statement", "amount"), lambda amount: -amount), "statement bundle"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "check"), [row[1:] for row in TAMPERED], ids=[row[0] for row in TAMPERED])
def test_each_tampering_is_named(change: Callable[[Json], object], check: str) -> None:
    assert failing_check(tampered(change)) == check


def replaced(**changes: Any) -> Callable[[StatementLeaf], StatementLeaf]:
    return lambda leaf: msgspec.structs.replace(leaf, **changes)


LEAF = STATED.leaf
OTHER = STATED.other.node_id
NEVER, LATE = "2026-99-01T00:00:00Z", "2027-01-01T00:00:00Z"
WRONG_BOOKS: list[tuple[str, Evidence, str]] = [
    ("more than the receipts pay", STATED.forged(replaced(amount=LEAF.amount + 1, payable=LEAF.payable + 1)), "amount"),
    ("less than the receipts pay", STATED.forged(replaced(amount=LEAF.amount - 1)), "amount"),
    ("less payable than stated", STATED.forged(replaced(payable=LEAF.amount - 1)), "payable"),
    ("another node's receipts", STATED.forged(replaced(node_id=OTHER)), "node"),
    ("one receipt of another node", STATED.forged(replaced(), STATED.forged_receipt(node_id=OTHER)), "node"),
    ("a receipt less than it names", STATED.forged(replaced(receipts=LEAF.receipts[:-1])), "receipts"),
    ("a receipt more than it names", STATED.forged(replaced(receipts=(*LEAF.receipts, LEAF.index - 1))), "receipts"),
    ("receipts that come after it", STATED.forged(replaced(index=LEAF.receipts[-1])), "receipts"),
    ("a period that ends before it begins", STATED.forged(replaced(period_start_ms=LEAF.period_end_ms + 1)), "period"),
    ("a period that ends before a receipt", STATED.forged(replaced(period_start_ms=0, period_end_ms=1)), "period"),
    ("a receipt of a later time", STATED.forged(replaced(), STATED.forged_receipt(timestamp=LATE)), "period"),
    ("a receipt of no time", STATED.forged(replaced(), STATED.forged_receipt(timestamp=NEVER)), "period"),
]  # fmt: skip


@pytest.mark.parametrize(("evidence", "check"), [row[1:] for row in WRONG_BOOKS], ids=[row[0] for row in WRONG_BOOKS])
def test_signed_books_that_are_wrong_are_refused(evidence: Evidence, check: str) -> None:
    assert failing_check(evidence) == check


def test_one_receipt_named_twice_is_not_paid_twice() -> None:
    first, *others = [STATED.market.leaves[index] for index in LEAF.receipts]
    amount = LEAF.amount + parse_usdc(json.loads(first)["payment_amount"])
    doubled = replaced(receipts=(LEAF.receipts[0], *LEAF.receipts), amount=amount, payable=amount)
    assert failing_check(STATED.forged(doubled, [first, first, *others])) == "receipts"


def test_a_receipt_of_another_log_counts_for_nothing() -> None:
    receipt = STATED.market.receipts()[-1]
    elsewhere = STATED.forged_receipt(log=msgspec.structs.replace(receipt.log, origin="pinaivu.test/other"))
    assert failing_check(STATED.forged(replaced(), elsewhere)) == "origin"


def test_a_statement_needs_the_settlement_key_beside_the_receipt_key() -> None:
    unsigned = msgspec.structs.replace(LEAF, settlement_signature="", coordinator_signature="")
    stranger = Ed25519PrivateKey.from_private_bytes(bytes(32))
    for half in (sign_statement(unsigned, stranger), unsigned):
        leaf = sign_leaf(half, STATED.keys.receipt)
        evidence = Evidence({**STATED.bundle(leaf, []), "receipts": GENUINE.bundle["receipts"]}, GENUINE.trust)
        assert failing_check(evidence) == "statement signature"


def test_a_statement_at_another_place_of_the_log_is_refused() -> None:
    moved = json.loads(TEXT)
    leaves = [*STATED.market.leaves[: LEAF.index], b"{}", STATED.market.leaves[LEAF.index]]
    moved["proof"] = inclusion(leaves, LEAF.index + 1, STATED.keys)
    assert failing_check(Evidence(moved, GENUINE.trust)) == "log index"


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"origin": "pinaivu.test/other"}, "origin"),
        ({"platform": "qemu"}, "platform"),
        ({"pcrs": {**GENUINE.trust["pcrs"], "0": "ab" * 48}}, "PCR0"),
    ],
)
def test_another_log_platform_or_image_than_the_trusted_one_is_refused(changes: Json, check: str) -> None:
    assert failing_check(Evidence(GENUINE.bundle, {**GENUINE.trust, **changes})) == check


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"\xff\xfe", b"[" * 100_000, b"[]", b"null", b"NaN", b'{"receipt": {}}', b'{"statement": 1}'],
)
def test_what_is_no_statement_cannot_be_read(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        parse_statement(content)


def test_what_is_too_long_is_not_even_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinaivu_shared.statement.MAX_STATEMENT_BYTES", len(TEXT) - 1)
    with pytest.raises(UnreadableError, match="at most"):
        parse_statement(TEXT)


def test_the_services_error_in_place_of_a_statement_is_said() -> None:
    with pytest.raises(UnreadableError, match="this is the service's error: no such statement"):
        parse_statement(b'{"error": {"message": "no such statement"}, "request_id": "req_1"}')


def test_a_duplicated_field_is_refused() -> None:
    with pytest.raises(VerificationError, match="twice"):
        parse_statement(TEXT.replace(b'"amount"', b'"amount": 1, "amount"', 1))


@given(st.integers(0, len(TEXT) - 1), st.integers(0, 255))
@example(0, 0xFF)
def test_any_bytes_are_a_bundle_or_one_of_two_errors(place: int, byte: int) -> None:
    changed = TEXT[:place] + bytes([byte]) + TEXT[place + 1 :]
    try:
        parse_statement(changed)
    except (UnreadableError, VerificationError):
        return
