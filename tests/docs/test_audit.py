"""docs/audit.md, as far as it is about a running service. The part about the image is run by tests/boot."""

import json
from pathlib import Path

from tests.docs.conftest import Service
from tests.docs.pages import DOCS, blocks, section
from tests.docs.shell import run_blocks

from pinaivu_shared.trust import parse_trust

PAGE = DOCS / "audit.md"
SERVICE_PART = blocks(section(PAGE, 'From a running service to "this is that image"'), "sh")
REHEARSAL = blocks(section(PAGE, "Rehearse it"), "sh")
RECEIPT_PART = blocks(section(PAGE, "To a receipt"), "sh")


def test_an_auditor_comes_from_pcrs_to_a_trust_file_to_a_valid_receipt(service: Service, tmp_path: Path) -> None:
    service.write_pcrs(tmp_path)
    ended = run_blocks([*SERVICE_PART, *RECEIPT_PART], tmp_path, service.given | service.simulated)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("valid                yes") == 2, "the attestation and the receipt"
    assert service.given["REQUEST_ID"] in ended.stdout
    assert '"fee_bps": 500' in ended.stdout, "the configuration is there to be read"
    assert parse_trust((tmp_path / "trust.json").read_bytes()).platform == "simulator"


def rehearse(service: Service, folder: Path) -> list[str]:
    """The page's blocks, with the network of the tests in `.pinaivu` and at its own port and model."""
    (folder / ".pinaivu").symlink_to(Path(service.network["trust"]).parent)
    (block,) = REHEARSAL
    assert "http://127.0.0.1:8080" in block
    return [block.replace("http://127.0.0.1:8080", service.given["SERVICE"]).replace("pinaivu-tiny", "echo")]


def test_the_rehearsal_leads_through_both_parts_as_they_stand(service: Service, tmp_path: Path) -> None:
    given = {"OPENAI_API_KEY": service.given["OPENAI_API_KEY"]}
    ended = run_blocks([*rehearse(service, tmp_path), *SERVICE_PART, *RECEIPT_PART], tmp_path, given)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("valid                yes") == 2
    request_id = json.loads((tmp_path / "answer.json").read_text())["request_id"]
    assert request_id in ended.stdout


def test_the_rehearsed_service_is_refused_once_the_two_variables_are_gone(service: Service, tmp_path: Path) -> None:
    given = {"OPENAI_API_KEY": service.given["OPENAI_API_KEY"]}
    forgotten = [*rehearse(service, tmp_path), "unset PINAIVU_PLATFORM PINAIVU_ROOT"]
    ended = run_blocks([*forgotten, *SERVICE_PART], tmp_path, given)
    assert ended.returncode == 1
    assert "another platform (simulator or QEMU)?" in ended.stderr


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
