"""Offline verification: what is genuine is valid, and every tampering alone is refused under its own name."""

import base64
import copy
import datetime as dt
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import example, given
from hypothesis import strategies as st
from tests.enclave.market import Market
from tests.shared.evidence import ANSWER, REQUEST, Evidence, make_evidence

from pinaivu_shared.attestation.roots import AWS_NITRO_ROOT_PEM
from pinaivu_shared.bundle import VerifiedBundle, parse_bundle, verify_bundle
from pinaivu_shared.error_body import service_error
from pinaivu_shared.errors import UnreadableError, VerificationError
from pinaivu_shared.log.keys import Algorithm, VerifierKey, format_vkey
from pinaivu_shared.signed import P256_ORDER
from pinaivu_shared.trust import parse_trust
from pinaivu_simulator.pki import SimulatedPki

GENUINE = make_evidence()
Path = tuple[str | int, ...]


def judge(evidence: Evidence, **opened: Any) -> VerifiedBundle:
    trust = parse_trust(json.dumps(evidence.trust).encode())
    return verify_bundle(parse_bundle(json.dumps(evidence.bundle).encode()), trust, **opened)


def tampered(change: Callable[[dict[str, Any]], object]) -> Evidence:
    bundle = copy.deepcopy(GENUINE.bundle)
    change(bundle)
    return Evidence(bundle, GENUINE.trust)


def failing_check(evidence: Evidence, **opened: Any) -> str:
    with pytest.raises(VerificationError) as caught:
        judge(evidence, **opened)
    return caught.value.check


def test_a_genuine_bundle_is_valid() -> None:
    verified = judge(GENUINE)
    assert verified.receipt.outcome == "completed"
    assert verified.opened == ()


def test_request_and_answer_open_their_commitments() -> None:
    assert judge(GENUINE, request=REQUEST, choices=ANSWER).opened == ("request", "forwarded", "response")


def test_key_order_and_spaces_of_the_file_do_not_matter() -> None:
    shuffled = dict(sorted(GENUINE.bundle.items(), reverse=True))
    trust = parse_trust(json.dumps(GENUINE.trust, indent=4).encode())
    verify_bundle(parse_bundle(json.dumps(shuffled, indent=3).encode()), trust)


def leaves_of(value: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every string and number in a JSON value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves_of(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves_of(inner, (*path, index))
    else:
        yield path


def change_at(path: Path, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def apply(bundle: dict[str, Any]) -> None:
        inner: Any = bundle
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = change(inner[path[-1]])

    return apply


def replaced(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    return change_at(path, lambda _: value)


def another(value: Any) -> Any:
    """A value of the same type that differs in one place."""
    if isinstance(value, int):
        return value + 1
    if value == "":
        return "x"
    swapped = "1" if value[-1] != "1" else "2"
    return value[:-1] + swapped


SIGNED_PARTS = ("receipt", "manifest", "configuration", "transcript")
SIGNED_FIELDS = [path for path in leaves_of(GENUINE.bundle) if path[0] in SIGNED_PARTS]


@pytest.mark.parametrize("path", SIGNED_FIELDS, ids=lambda path: ".".join(map(str, path)))
def test_any_signed_field_changed_is_refused(path: Path) -> None:
    failing_check(tampered(change_at(path, another)))


@pytest.mark.parametrize("part", ["attestation", "proof"])
def test_any_byte_of_attestation_and_inclusion_proof_changed_is_refused(part: str) -> None:
    text = GENUINE.bundle[part]
    chance = random.Random(3)
    for place in chance.sample(range(len(text)), 60):
        altered = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        failing_check(tampered(replaced(part, value=altered)))


@pytest.mark.parametrize("part", ["payload", "signature"])
def test_any_byte_of_the_nodes_proof_changed_is_refused(part: str) -> None:
    raw = bytearray(base64.b64decode(GENUINE.bundle["node_proof"][part]))
    for place in range(0, len(raw), 7):
        altered = bytes([*raw[:place], raw[place] ^ 1, *raw[place + 1 :]])
        text = base64.b64encode(altered).decode()
        assert "node proof" in failing_check(tampered(replaced("node_proof", part, value=text))) or (
            part == "signature"
        )


def high_s(text: str) -> str:
    r, s = decode_dss_signature(bytes.fromhex(text[2:]))
    return "0x" + encode_dss_signature(r, P256_ORDER - s).hex()


def trailing_signature_byte(text: str) -> str:
    return text + "00"


FAILURES: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("signature's s replaced by n - s", change_at(("receipt", "coordinator_signature"), high_s), "receipt signature"),
    ("signature in upper case", change_at(("receipt", "coordinator_signature"), str.upper), "receipt signature"),
    ("signature longer", change_at(("receipt", "coordinator_signature"), trailing_signature_byte), "receipt signature"),
    ("payment raised", change_at(("receipt", "payment_amount"), lambda _: "1.000000 USDC"), "receipt signature"),
    ("manifest of another epoch", change_at(("manifest", "epoch"), lambda epoch: epoch + 1), "attestation manifest"),
    ("configuration altered", change_at(("configuration", "fee_bps"), lambda _: 0), "configuration"),
    ("transcript altered", change_at(("transcript", "bids", 1, "bid", "input_price"), lambda _: 39_999), "transcript"),
    ("the node's proof left out", lambda bundle: bundle.pop("node_proof"), "node proof"),
    ("attestation is not base64", change_at(("attestation",), lambda text: text + "!"), "attestation document"),
    ("another index", change_at(("proof",), lambda text: text.replace("index ", "index 1", 1)), "inclusion proof"),
    ("no log signature", change_at(("proof",), lambda text: text.rsplit("—", 1)[0]), "checkpoint"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "check"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
def test_each_tampering_is_named(change: Callable[[dict[str, Any]], object], check: str) -> None:
    assert failing_check(tampered(change)) == check


IMPOSSIBLE: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("a receipt field added", lambda bundle: bundle["receipt"].update(extra=1)),
    ("a receipt field removed", lambda bundle: bundle["receipt"].pop("outcome")),
    ("a bundle part added", lambda bundle: bundle.update(extra=1)),
    ("a bundle part removed", lambda bundle: bundle.pop("transcript")),
    ("a float for an integer", change_at(("receipt", "prompt_tokens"), float)),
    ("true for an integer", change_at(("receipt", "version"), lambda _: True)),
]  # fmt: skip


@pytest.mark.parametrize("change", [row[1] for row in IMPOSSIBLE], ids=[row[0] for row in IMPOSSIBLE])
def test_a_receipt_with_evidence_that_cannot_be_is_not_valid(change: Callable[[dict[str, Any]], object]) -> None:
    assert failing_check(tampered(change)) == "bundle"


def test_a_receipt_of_one_epoch_does_not_go_with_the_attestation_of_another() -> None:
    market = Market()
    first = make_evidence(market)
    second = make_evidence(Market(stored=tuple(market.leaves), checkpoint=market.checkpoint))
    for parts in (["receipt"], ["attestation"], ["attestation", "manifest"]):
        mixed = {**first.bundle, **{part: second.bundle[part] for part in parts}}
        failing_check(Evidence(mixed, first.trust))


def test_two_epochs_of_one_log_are_valid_under_one_trust_file() -> None:
    market = Market()
    first = make_evidence(market)
    second = make_evidence(Market(stored=tuple(market.leaves), checkpoint=market.checkpoint))
    assert [judge(Evidence(one.bundle, first.trust)).epoch.manifest.epoch for one in (first, second)] == [1, 2]


def with_trust(**changes: Any) -> Evidence:
    return Evidence(GENUINE.bundle, {**GENUINE.trust, **changes})


def test_a_platform_root_that_is_not_the_trusted_one_is_refused() -> None:
    other = SimulatedPki.create(now=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), entropy=random.Random(5).randbytes)
    assert failing_check(with_trust(root=other.trust_root_pem)) == "attestation chain"


def test_a_simulated_receipt_never_passes_for_production() -> None:
    trust = {name: value for name, value in GENUINE.trust.items() if name != "root"}
    assert failing_check(Evidence(GENUINE.bundle, {**trust, "platform": "nitro"})) == "attestation chain"
    assert failing_check(with_trust(platform="qemu")) == "platform"


@pytest.mark.parametrize("index", ["0", "1", "2"])
def test_other_measurements_than_the_trusted_ones_are_refused(index: str) -> None:
    pcrs = {**GENUINE.trust["pcrs"], index: "ab" * 48}
    assert failing_check(with_trust(pcrs=pcrs)) == f"PCR{index}"


def test_another_log_than_the_trusted_one_is_refused() -> None:
    assert failing_check(with_trust(origin="pinaivu.test/other")) == "origin"


def test_a_log_key_that_the_trust_file_does_not_name_is_refused() -> None:
    vkey = "pinaivu.test/log+1ae1a1b3+AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
    with pytest.raises((VerificationError, UnreadableError)):
        judge(with_trust(log_keys=[vkey]))


def test_a_quorum_nobody_cosigned_is_refused() -> None:
    raw = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    witness = format_vkey(VerifierKey("witness.test", Algorithm.COSIGNATURE_V1, raw))
    assert failing_check(with_trust(witnesses=[witness], quorum=1)) == "witness quorum"


@pytest.mark.parametrize(
    "changes",
    [
        {"pcrs": {"0": "00" * 48, "1": "ab" * 48, "2": "ab" * 48}},
        {"pcrs": {"0": "ab" * 48, "1": "ab" * 48}},
        {"root": AWS_NITRO_ROOT_PEM},
        {"platform": "nitro"},
        {"platform": "other"},
        {"log_keys": []},
        {"quorum": 1},
        {"extra": 1},
        {"root": "no certificate"},
    ],
    ids=["zero PCR0", "no PCR2", "AWS root", "nitro with own root", "platform", "no log", "quorum", "extra", "root"],
)  # fmt: skip
def test_a_trust_file_that_makes_no_sense_is_not_half_believed(changes: dict[str, Any]) -> None:
    with pytest.raises(UnreadableError, match=r"trust file|trust root") as caught:
        parse_trust(json.dumps({**GENUINE.trust, **changes}).encode())
    assert str(caught.value).count("trust file") <= 1


@pytest.mark.parametrize(
    ("opened", "check"),
    [
        ({"request": {**REQUEST, "temperature": 0.8}}, "request commitment"),
        ({"request": {**REQUEST, "user": "else"}}, "request commitment"),
        ({"choices": [{**ANSWER[0], "finish_reason": "length"}]}, "response commitment"),
        ({"choices": [{**ANSWER[0], "message": {"content": "Hello"}}]}, "response commitment"),
    ],
)
def test_another_request_or_answer_does_not_open_the_commitment(opened: dict[str, Any], check: str) -> None:
    assert failing_check(GENUINE, **opened) == check


def test_another_salt_does_not_open_the_commitment() -> None:
    evidence = tampered(change_at(("opening", "salt"), lambda _: "00" * 32))
    assert failing_check(evidence, request=REQUEST) == "request commitment"


def test_without_the_salt_nothing_opens() -> None:
    assert failing_check(tampered(lambda bundle: bundle.pop("opening")), request=REQUEST) == "commitment"


def test_a_duplicated_field_is_refused() -> None:
    text = json.dumps(GENUINE.bundle)
    for field in ('"outcome": "completed"', '"version": 1', '"origin": "pinaivu.test/log"'):
        with pytest.raises(VerificationError, match="twice"):
            parse_bundle(text.replace(field, f"{field}, {field}", 1).encode())


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"\xff\xfe", b"[" * 100_000, b"{" + b"x" * 100, b"[]", b"null", b"NaN", b" " * (9 * 1024 * 1024)],
    ids=["empty", "garbage", "bytes", "deep", "cut", "array", "null", "NaN", "huge"],
)
def test_what_is_no_bundle_cannot_be_read(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        parse_bundle(content)


def test_the_services_error_in_place_of_a_bundle_is_said() -> None:
    body = {"error": {"message": "no such receipt", "type": "invalid_request_error", "param": None, "code": "x"}}
    with pytest.raises(UnreadableError, match="this is the service's error: no such receipt"):
        parse_bundle(json.dumps({**body, "request_id": "req_1"}).encode())


@given(st.binary())
@example(b"[" * 100_000)
@example(b'{"error": "text"}')
@example(b'{"error": {"message": "\xff"}}')
def test_any_other_bytes_are_no_error_of_the_service(raw: bytes) -> None:
    assert service_error(raw) is None
