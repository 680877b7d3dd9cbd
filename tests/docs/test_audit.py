"""docs/audit.md, as far as it is about a running service. The part about the image is run by tests/boot."""

import json
from pathlib import Path

from tests.docs.conftest import Service
from tests.docs.pages import DOCS, blocks, section
from tests.docs.shell import run_blocks

from pinaivu_shared.trust import parse_trust

PAGE = DOCS / "audit.md"
SERVICE_PART = blocks(section(PAGE, 'From a running service to "this is that image"'), "sh")
RECEIPT_PART = blocks(section(PAGE, "To a receipt"), "sh")


def test_an_auditor_comes_from_pcrs_to_a_trust_file_to_a_valid_receipt(service: Service, tmp_path: Path) -> None:
    service.write_pcrs(tmp_path)
    ended = run_blocks([*SERVICE_PART, *RECEIPT_PART], tmp_path, service.given | service.simulated)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("valid                yes") == 2, "the attestation and the receipt"
    assert service.given["REQUEST_ID"] in ended.stdout
    assert '"fee_bps": 500' in ended.stdout, "the configuration is there to be read"
    assert parse_trust((tmp_path / "trust.json").read_bytes()).platform == "simulator"


def test_a_simulated_service_does_not_pass_for_a_real_one(service: Service, tmp_path: Path) -> None:
    """The same commands, without saying that the service is simulated."""
    service.write_pcrs(tmp_path)
    ended = run_blocks(SERVICE_PART, tmp_path, service.given)
    assert ended.returncode == 1
    assert "not valid: attestation chain: the first certificate of cabundle is not the trusted root" in ended.stderr
    assert (tmp_path / "trust.json").read_text() == ""


def test_another_image_gives_no_trust_file(service: Service, tmp_path: Path) -> None:
    service.write_pcrs(tmp_path)
    registers = json.loads((tmp_path / "pcrs.json").read_text())
    registers["Measurements"]["PCR2"] = "ab" * 48
    (tmp_path / "pcrs.json").write_text(json.dumps(registers))
    ended = run_blocks(SERVICE_PART, tmp_path, service.given | service.simulated)
    assert ended.returncode == 1
    assert "PCR2" in ended.stderr
    assert (tmp_path / "trust.json").read_text() == ""
