"""docs/developers/verify.ts: it shares no code with ours, and judges every bundle as ours does, by the same names."""

import base64
import copy
import datetime as dt
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.attestation import test_chain, test_form, test_genuine, test_signature
from tests.attestation.forge import DOCUMENT, GOOD, NOW_MS, PKI
from tests.docs.pages import ROOT
from tests.docs.typescript import compiled, judge_all, run_node
from tests.enclave.market import Market, Node
from tests.shared.evidence import ANSWER, REQUEST, Evidence, make_evidence
from tests.shared.test_bundle import (
    FAILURES,
    GENUINE,
    IMPOSSIBLE,
    SIGNED_FIELDS,
    another,
    change_at,
    replaced,
    tampered,
)
from tests.shared.test_own_copies import HONEST, VECTOR

from pinaivu_shared.attestation.policy import configuration_pcr
from pinaivu_shared.attestation.roots import AWS_NITRO_ROOT_PEM
from pinaivu_shared.bundle import parse_bundle, verify_bundle
from pinaivu_shared.canonical import encode
from pinaivu_shared.errors import UnreadableError, VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.log.keys import Algorithm, VerifierKey, format_vkey
from pinaivu_shared.log.note import cosign
from pinaivu_shared.money import charge_on, format_usdc, parse_usdc
from pinaivu_shared.receipt import Receipt, sign_receipt
from pinaivu_shared.trust import parse_trust
from pinaivu_simulator.pki import SimulatedPki

Case = tuple[str, Evidence, dict[str, Any]]
WITNESS = Ed25519PrivateKey.from_private_bytes(bytes(32))
WITNESS_KEY = VerifierKey("witness.test", Algorithm.COSIGNATURE_V1, WITNESS.public_key().public_bytes_raw())


PROOFS: dict[str, dict[str, Any]] = {
    "proof signature": {"sequence": 4711},
    "node key": {"public_key": "01" + "00" * 30 + "80"},
    "node proof": {"outcome": "refused"},
}
"""What a node could not sign, and the check that says so."""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("typescript"))


def python_verdict(evidence: Evidence, opened: dict[str, Any]) -> str:
    try:
        trust = parse_trust(json.dumps(evidence.trust).encode())
        verify_bundle(parse_bundle(json.dumps(evidence.bundle).encode()), trust, **opened)
    except VerificationError as error:
        return error.check
    return "valid"


def compare(built: Path, folder: Path, cases: list[Case]) -> list[str]:
    """Judge each case by both; the verdicts of ours, once those of the other are the same."""
    asked = [
        {"bundle": json.dumps(evidence.bundle), "trust": json.dumps(evidence.trust), **opened}
        for _, evidence, opened in cases
    ]
    found = judge_all(built, asked, folder)
    expected = [python_verdict(evidence, opened) for _, evidence, opened in cases]
    names = [name for name, _, _ in cases]
    assert dict(zip(names, found, strict=True)) == dict(zip(names, expected, strict=True))
    return expected


def with_trust(**changes: Any) -> Evidence:
    return Evidence(GENUINE.bundle, {**GENUINE.trust, **changes})


def changed(name: str, change: Callable[[dict[str, Any]], object]) -> Case:
    return name, tampered(change), {}


def byte_changes(part: str, count: int) -> Iterator[Case]:
    text = GENUINE.bundle[part]
    for place in random.Random(3).sample(range(len(text)), count):
        altered = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        yield changed(f"{part} at {place}", replaced(part, value=altered))


def bit_flips(*path: str, step: int) -> Iterator[Case]:
    text = GENUINE.bundle[path[0]][path[1]] if len(path) == 2 else GENUINE.bundle[path[0]]
    raw = base64.b64decode(text)
    for place in range(0, len(raw), step):
        altered = bytes([*raw[:place], raw[place] ^ 1, *raw[place + 1 :]])
        yield changed(f"{path} byte {place}", replaced(*path, value=base64.b64encode(altered).decode()))


def test_every_changed_field_is_refused_under_the_same_name(built: Path, tmp_path: Path) -> None:
    cases = [changed(".".join(map(str, path)), change_at(path, another)) for path in SIGNED_FIELDS]
    cases += [changed(name, change) for name, change, _ in FAILURES]
    cases += [changed(name, change) for name, change in IMPOSSIBLE]
    expected = compare(built, tmp_path, cases)
    assert len(expected) > 100
    assert "valid" not in expected


def test_every_changed_byte_is_refused_under_the_same_name(built: Path, tmp_path: Path) -> None:
    cases = [*byte_changes("proof", 60), *byte_changes("attestation", 60), *bit_flips("attestation", step=29)]
    cases += [*bit_flips("node_proof", "payload", step=7), *bit_flips("node_proof", "signature", step=5)]
    expected = compare(built, tmp_path, cases)
    assert "valid" not in expected
    assert {"attestation document", "attestation chain", "attestation signature", "node proof"} < set(expected)


def test_every_forged_document_is_refused_under_the_same_name(built: Path, tmp_path: Path) -> None:
    forged = test_chain.FORGED | test_form.BROKEN | test_signature.FORGED | test_form.ACCEPTED
    forged["a timestamp in seconds"] = GOOD.document(timestamp=NOW_MS // 1000)
    forged |= {f"{size} bytes": bytes(size) for size in (0, 16_385)}
    trust = {**GENUINE.trust, "root": PKI.trust_root_pem}
    cases: list[Case] = [
        (name, Evidence({**GENUINE.bundle, "attestation": base64.b64encode(raw).decode()}, trust), {})
        for name, raw in forged.items()
    ]
    expected = compare(built, tmp_path, cases)
    assert expected.count("attestation chain") >= len(test_chain.FORGED)
    assert expected.count("attestation manifest") == len(test_form.ACCEPTED), "good documents of another manifest"


def test_a_genuine_document_of_aws_passes_and_vouches_for_no_manifest(built: Path, tmp_path: Path) -> None:
    pcrs = {str(index): next(iter(values)).hex() for index, values in test_genuine.IMAGE.pcrs.items()}
    trust = {name: value for name, value in GENUINE.trust.items() if name != "root"}
    bundle = {**GENUINE.bundle, "attestation": base64.b64encode(test_genuine.GENUINE).decode()}
    genuine = Evidence(bundle, {**trust, "platform": "nitro", "pcrs": pcrs})
    simulated = Evidence({**bundle, "attestation": base64.b64encode(DOCUMENT).decode()}, genuine.trust)
    cases: list[Case] = [("genuine", genuine, {}), ("simulated", simulated, {})]
    assert compare(built, tmp_path, cases) == ["attestation manifest", "attestation chain"]


def test_a_document_is_bound_to_its_key_and_configuration_alike(built: Path, tmp_path: Path) -> None:
    """Documents that vouch for the genuine manifest, under another root."""
    manifest, configuration = GENUINE.bundle["manifest"], encode(GENUINE.bundle["configuration"])
    bound = {
        "user_data": hashlib.sha256(encode(manifest)).digest(),
        "public_key": bytes.fromhex(manifest["receipt_key"]),
    }
    documents: dict[str, dict[str, Any]] = {
        "PCR16": {"pcrs": test_form.PCRS},
        "PCR16 of another": {"pcrs": test_form.PCRS | {16: configuration_pcr(configuration + b" ")}},
        "epoch": {"pcrs": test_form.PCRS | {16: configuration_pcr(configuration)}},
        "attestation key": {"public_key": b"another"},
    }
    trust = {**GENUINE.trust, "root": PKI.trust_root_pem}
    cases: list[Case] = []
    for name, changes in documents.items():
        attestation = base64.b64encode(GOOD.document(**{**bound, **changes})).decode()
        cases.append((name, Evidence({**GENUINE.bundle, "attestation": attestation}, trust), {}))
    assert compare(built, tmp_path, cases) == [name.removesuffix(" of another") for name in documents]


def test_other_trust_is_judged_alike(built: Path, tmp_path: Path) -> None:
    other = SimulatedPki.create(now=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), entropy=random.Random(5).randbytes)
    stranger = format_vkey(VerifierKey(GENUINE.trust["origin"], Algorithm.ED25519, WITNESS_KEY.public_key))
    cases: list[Case] = [
        ("another root", with_trust(root=other.trust_root_pem), {}),
        ("another platform", with_trust(platform="qemu"), {}),
        ("another log", with_trust(origin="pinaivu.test/other"), {}),
        ("another log key", with_trust(log_keys=[stranger]), {}),
        ("a second log key", with_trust(log_keys=[stranger, *GENUINE.trust["log_keys"]]), {}),
        ("a quorum that nobody is", with_trust(witnesses=[format_vkey(WITNESS_KEY)], quorum=1), {}),
        ("a quorum that is there", cosigned(1), {}),
        ("a cosignature of another time", cosigned(2), {}),
    ]
    cases += [
        (f"PCR{index}", with_trust(pcrs={**GENUINE.trust["pcrs"], index: "ab" * 48}), {}) for index in ("0", "1", "2")
    ]
    expected = compare(built, tmp_path, cases)
    assert expected.count("valid") == 2


def cosigned(shown_s: int) -> Evidence:
    """The genuine bundle, its checkpoint cosigned at second 1, and what the line says of the time."""
    proof = GENUINE.bundle["proof"]
    text = proof.split("\n\n", 1)[1].rsplit("\n\n", 1)[0] + "\n"
    name, encoded = cosign(text, name=WITNESS_KEY.name, key=WITNESS, time_s=1).rstrip("\n").rsplit(" ", 1)
    blob = bytearray(base64.b64decode(encoded))
    blob[11] = shown_s
    trust = {**GENUINE.trust, "witnesses": [format_vkey(WITNESS_KEY)], "quorum": 1}
    return Evidence({**GENUINE.bundle, "proof": f"{proof}{name} {base64.b64encode(blob).decode()}\n"}, trust)


def test_what_a_dishonest_enclave_could_sign_is_judged_alike(built: Path, tmp_path: Path) -> None:
    """Wrong receipts, correctly signed by the attested key: the checks that no changed byte reaches."""
    market = Market()
    evidence = make_evidence(market)
    keys = market.boot._keys
    assert keys is not None
    receipt, transcript = evidence.bundle["receipt"], copy.deepcopy(evidence.bundle["transcript"])
    transcript["output_price"] -= 1
    auction = {**receipt["auction"], "transcript": digest_of(encode(transcript))}
    dearer = {**auction, "output_price": transcript["output_price"]}
    payment = parse_usdc(receipt["payment_amount"]) + 1
    charge = format_usdc(charge_on(payment, evidence.bundle["configuration"]["fee_bps"]))
    wrong: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "coordinator key": ({"coordinator_key": "00" * 32}, {}),
        "epoch": ({"attestation": "sha256:" + "00" * 32}, {}),
        "transcript": ({"auction": dearer}, {"transcript": transcript}),
        "auction": ({"model": "another"}, {}),
        "payment": ({"payment_amount": format_usdc(payment), "charge_amount": charge}, {}),
        "charge": ({"charge_amount": charge}, {}),
        "origin": ({"log": {**receipt["log"], "origin": "pinaivu.test/other"}}, {}),
        "inclusion proof": ({"reason": "another leaf"}, {}),
    }
    proof = json.loads(base64.b64decode(evidence.bundle["node_proof"]["payload"]))
    for name, changes in PROOFS.items():
        payload = encode({**proof, **changes})
        parts = {"node_proof": {**evidence.bundle["node_proof"], "payload": base64.b64encode(payload).decode()}}
        wrong[name] = ({"node_proof": digest_of(payload)}, parts)
    cases: list[Case] = []
    for name, (changes, parts) in wrong.items():
        unsigned = msgspec.convert({**receipt, **changes, "coordinator_signature": ""}, Receipt)
        signed = sign_receipt(unsigned, keys.receipt)
        cases.append((name, Evidence({**evidence.bundle, **parts, "receipt": json.loads(signed)}, evidence.trust), {}))
    assert compare(built, tmp_path, cases) == list(wrong)


CALLED = [{"index": 0, "message": {"content": None, "tool_calls": [{"id": "call_1"}]}, "finish_reason": "tool_calls"}]


def test_requests_and_answers_open_alike(built: Path, tmp_path: Path) -> None:
    without_salt = {name: part for name, part in GENUINE.bundle.items() if name != "opening"}
    foreign = {**GENUINE.bundle, "opening": {"salt": "00" * 32}}
    openings: list[dict[str, Any]] = [
        {"request": REQUEST, "choices": ANSWER},
        {"request": dict(sorted(REQUEST.items(), reverse=True))},
        {"request": {**REQUEST, "temperature": 0.8}},
        {"request": {**REQUEST, "user": "\U0001f600"}},
        {"choices": [{**ANSWER[0], "logprobs": None}]},
        {"choices": [{**ANSWER[0], "finish_reason": "length"}]},
        {"choices": CALLED},
        {"choices": [{**ANSWER[0], "message": {**ANSWER[0]["message"], "tool_calls": {"0": "pay"}}}]},
    ]
    cases: list[Case] = [(str(opened), GENUINE, opened) for opened in openings]
    cases += [("no salt", Evidence(without_salt, GENUINE.trust), openings[0])]
    cases += [("another salt", Evidence(foreign, GENUINE.trust), openings[0])]
    expected = compare(built, tmp_path, cases)
    assert expected.count("valid") == 3


def test_canonical_json_is_that_of_the_vectors(built: Path, tmp_path: Path) -> None:
    """`__proto__` as a name, and the order of UTF-16, among them."""
    vectors = json.loads((ROOT / "tests/vectors/tlog/jcs.json").read_text())["cases"]
    wanted = {one["input"]: one["canonical"] for one in vectors if one["canonical"] is not None}
    wanted['{"__proto__": {"b": 1, "a": 2}}'] = '{"__proto__":{"a":2,"b":1}}'
    (tmp_path / "inputs.json").write_text(json.dumps(list(wanted)))
    program = f"const {{ canonical }} = require({json.dumps(str(built / 'verify/canonical.js'))});"
    program += "console.log(JSON.stringify(require('./inputs.json').map((one) => canonical(JSON.parse(one)))));"
    ended = run_node(["node", "--eval", program], tmp_path)
    assert dict(zip(wanted, json.loads(ended.stdout), strict=True)) == wanted


def test_a_field_that_stands_twice_is_refused(built: Path, tmp_path: Path) -> None:
    text, trust = json.dumps(GENUINE.bundle), json.dumps(GENUINE.trust)
    fields = ('"outcome": "completed"', '"version": 1', '"origin": "pinaivu.test/log"')
    cases = [{"bundle": text.replace(field, f"{field}, {field}", 1), "trust": trust} for field in fields]
    assert judge_all(built, cases, tmp_path) == ["bundle"] * len(fields)


def test_a_trust_file_that_makes_no_sense_is_believed_by_neither(built: Path, tmp_path: Path) -> None:
    witness = format_vkey(WITNESS_KEY)
    nonsense: list[dict[str, Any]] = [
        {"pcrs": {**GENUINE.trust["pcrs"], "0": "00" * 48}},
        {"platform": "nitro"},
        {"root": AWS_NITRO_ROOT_PEM},
        {"log_keys": []},
        {"log_keys": [witness]},
        {"quorum": 1},
        {"witnesses": [witness, witness], "quorum": 2},
        {"witnesses": GENUINE.trust["log_keys"]},
        {"log_keys": [GENUINE.trust["log_keys"][0][:-4] + "AAA="]},
        {"extra": 1},
        {"root": "no certificate"},
    ]
    bundle = json.dumps(GENUINE.bundle)
    trusts = [{**GENUINE.trust, **changes} for changes in nonsense]
    found = judge_all(built, [{"bundle": bundle, "trust": json.dumps(trust)} for trust in trusts], tmp_path)
    assert set(found) <= {"trust file", "verifier key", "witness policy"}
    for trust in trusts:
        with pytest.raises((UnreadableError, VerificationError)):
            verify_bundle(parse_bundle(bundle.encode()), parse_trust(json.dumps(trust).encode()))


def test_an_auction_of_many_equal_bids_is_run_again_alike(built: Path, tmp_path: Path) -> None:
    market = Market()
    for number in range(6):
        Node(market, f"node-{number}", operator=f"operator-{number % 3}").register().quote(30_000, 90_000)
    assert compare(built, tmp_path, [("equal", make_evidence(market), {})]) == ["valid"]


def test_the_program_says_what_holds_and_exits_as_ours_does(built: Path, tmp_path: Path) -> None:
    tampering = tampered(replaced("receipt", "charge_amount", value="1.000000 USDC"))
    vectors = HONEST["vectors"]
    embedded = {"object": "list", "data": [{"index": 0, "embedding": VECTOR}]}
    more = {"vectors": make_evidence(told=vectors).bundle, "asked": vectors.request, "embedded": embedded}
    files = more | {"bundle": GENUINE.bundle, "trust": GENUINE.trust, "request": REQUEST, "answer": {"choices": ANSWER}}
    for name, content in {**files, "tampered": tampering.bundle, "error": {"error": {"message": "x"}}}.items():
        (tmp_path / name).write_text(json.dumps(content))

    def ended(*names: str) -> tuple[int, dict[str, Any]]:
        program = run_node(["node", built / "verify.js", *names], tmp_path)
        return program.returncode, json.loads(program.stdout)

    status, said = ended("bundle", "trust", "request", "answer")
    assert (status, said["valid"], said["opened_commitments"]) == (0, True, ["request", "forwarded", "response"])
    status, said = ended("vectors", "trust", "asked")
    assert (status, said["opened_commitments"], "RESPONSE" in said["not_compared"]) == (0, ["request"], True)
    status, said = ended("vectors", "trust", "asked", "embedded")
    assert (status, said["opened_commitments"]) == (0, ["request", "forwarded", "response"])
    assert "not_compared" not in said
    status, said = ended("tampered", "trust")
    assert (status, said["valid"], said["check"]) == (1, False, "receipt signature")
    (tmp_path / "twice").write_text('{"model": "a", "model": "b"}')
    (tmp_path / "list").write_text("[]")
    requests = [("bundle", "trust", name) for name in ("twice", "list")]
    for names in (("error", "trust"), ("bundle", "request"), ("missing", "trust"), (), *requests):
        status, said = ended(*names)
        assert (status, said["error"]) == (2, "unreadable")
