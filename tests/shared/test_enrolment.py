"""First contact: a trust file is written for an enclave of one's own image only, and then verifies what it signs."""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.enclave.market import Market

from pinaivu_shared.attestation.policy import MeasurementPolicy
from pinaivu_shared.attestation.roots import aws_nitro_root
from pinaivu_shared.cli import attestation
from pinaivu_shared.enrolment import Answer, enrol, read_answer, read_measurements
from pinaivu_shared.epoch import verify_epoch_archived
from pinaivu_shared.errors import UnreadableError, VerificationError
from pinaivu_shared.trust import parse_trust
from pinaivu_simulator.nsm import SIMULATED_MEASUREMENTS

NONCE = b"asked just now"
DESCRIBED = {"Measurements": {f"PCR{index}": value.hex() for index, value in SIMULATED_MEASUREMENTS.items()}}


class Service:
    """A serving enclave, and what its gateway answers."""

    def __init__(self) -> None:
        self.market = Market()
        self.nsm = self.market.boot._platform.nsm
        self.root = self.market.boot._platform.root
        attested = self.market.epoch.attest(self.nsm, NONCE)
        self.document = attested.document
        self.answer = read_answer(
            msgspec.json.encode(
                {
                    "document": base64.b64encode(attested.document).decode(),
                    "manifest": msgspec.Raw(attested.manifest),
                    "configuration": msgspec.Raw(attested.configuration),
                }
            )
        )

    def enrol(self, **changes: Any) -> bytes:
        judged: dict[str, Any] = {
            "platform": "simulator",
            "root": self.root,
            "policy": MeasurementPolicy.exactly(SIMULATED_MEASUREMENTS),
            "nonce": NONCE,
            "now_ms": self.market.now_ms,
        }
        answer = changes.pop("answer", self.answer)
        return enrol(answer, **{**judged, **changes})


@pytest.fixture(scope="module")
def service() -> Service:
    return Service()


def test_the_trust_file_verifies_what_the_enclave_signs(service: Service) -> None:
    trust = parse_trust(service.enrol())
    epoch = verify_epoch_archived(
        service.document, bytes(service.answer.manifest), bytes(service.answer.configuration), trust=trust
    )
    assert epoch.log_key in trust.log_keys
    assert (trust.platform, trust.origin) == ("simulator", epoch.manifest.origin)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"nonce": b"asked before"}, "attestation nonce"),
        ({"now_ms": 1_795_000_000_000 + 400_000}, "attestation freshness"),
        ({"root": aws_nitro_root(), "platform": "nitro"}, "attestation chain"),
        ({"platform": "qemu"}, "platform"),
        ({"policy": MeasurementPolicy.exactly({0: b"\1" * 48, 1: b"\1" * 48, 2: b"\1" * 48})}, "PCR0"),
    ],
    ids=["another-nonce", "old", "another-root", "another-platform", "another-image"],
)
def test_no_trust_file_is_written_for_a_service_that_does_not_prove_itself(
    service: Service, changes: dict[str, Any], check: str
) -> None:
    with pytest.raises(VerificationError) as caught:
        service.enrol(**changes)
    assert caught.value.check == check


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("manifest", b'"epoch":1', b'"epoch":2'),
        ("manifest", b"pinaivu.test/log", b"pinaivu.evil/log"),
        ("configuration", b'"fee_bps":500', b'"fee_bps":501'),
    ],
)
def test_a_rewritten_part_of_the_answer_is_refused(service: Service, part: str, old: bytes, new: bytes) -> None:
    parts = {"manifest": bytes(service.answer.manifest), "configuration": bytes(service.answer.configuration)}
    assert old in parts[part]
    parts[part] = parts[part].replace(old, new)
    rewritten = {name: msgspec.Raw(value) for name, value in parts.items()}
    with pytest.raises(VerificationError):
        service.enrol(answer=Answer(service.answer.document, **rewritten))


def test_the_command_says_what_is_wrong(service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "answer").write_bytes(msgspec.json.encode(service.answer))
    (tmp_path / "pcrs").write_text(json.dumps(DESCRIBED))
    given = [str(tmp_path / "answer"), "--pcrs", str(tmp_path / "pcrs"), "--nonce", NONCE.hex()]
    assert attestation(["trust", *given]) == 1
    assert "attestation chain" in capsys.readouterr().err
    debug = {"Measurements": {f"PCR{index}": "00" * 48 for index in range(3)}}
    (tmp_path / "debug").write_text(json.dumps(debug))
    assert attestation(["trust", given[0], "--pcrs", str(tmp_path / "debug"), "--nonce", NONCE.hex()]) == 2
    printed = capsys.readouterr()
    assert "must not be zero" in printed.err
    (tmp_path / "answer").write_text('{"error": {"message": "the enclave is not there"}}')
    assert attestation(["trust", *given]) == 2
    assert "this is the service's error: the enclave is not there" in capsys.readouterr().err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--platform", "simulator"), "--root: platform simulator needs"),
        (("--platform", "qemu"), "--platform qemu: there are nitro and simulator"),
        (("--platform", ""), "--platform : there are nitro and simulator"),
        (("--root", "/dev/null"), "--root: platform nitro has AWS's root and takes no other"),
        (("--platform", "simulator", "--root", ""), "the name of a file is empty"),
    ],
)
def test_a_platform_and_a_root_that_do_not_go_together_are_refused_with_what_would(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    (tmp_path / "answer").write_bytes(msgspec.json.encode(service.answer))
    (tmp_path / "pcrs").write_text(json.dumps(DESCRIBED))
    given = [str(tmp_path / "answer"), "--pcrs", str(tmp_path / "pcrs"), "--nonce", NONCE.hex()]
    assert attestation(["trust", *given, *flags]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.startswith(f"cannot be asked so: {said}")) == ("", True)


@given(st.binary())
@example(b"[" * 100_000)
@example(json.dumps({"Measurements": {"PCR0": "00" * 48, "PCR1": "00" * 48}}).encode())
def test_any_bytes_are_measurements_or_unreadable(raw: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_measurements(raw)
    with pytest.raises(UnreadableError):
        read_answer(raw)


def test_measurements_are_read_as_nitro_cli_prints_them() -> None:
    assert read_measurements(json.dumps(DESCRIBED).encode()) == SIMULATED_MEASUREMENTS
