"""An enclave is killed and boots again. On QEMU nothing can be resumed: what is not signed is not believed (ADR 8)."""

import secrets
from pathlib import Path

import pytest
from tests.boot.lab import LabFolder, running_lab

from pinaivu_simulator.qemu import Emulator

pytestmark = pytest.mark.trio


async def test_a_second_boot_gets_the_vault_and_refuses_the_log_of_the_first(
    emulator: Emulator, image: Path, tmp_path: Path
) -> None:
    lasting = LabFolder(tmp_path, image)
    async with running_lab(emulator, lasting) as lab:
        assert (await lab.ask("before")).status_code == 200
        assert '"TrentService.GenerateDataKey"' in await lab.until_logged("KMS request carried")
        first = (await lab.get("/attestation", nonce=secrets.token_hex(8))).json()["manifest"]

    async with running_lab(emulator, lasting, nodes=0) as lab:
        log = await lab.until_logged("verification_failed")
        assert '"TrentService.Decrypt"' in log, "the sealed vault opened"
        assert "attestation document" in log, "and what QEMU did not sign was not believed"
        assert (await lab.get("/attestation")).status_code == 503, "an enclave that does not serve attests to no epoch"

    await lasting.forget_log()
    async with running_lab(emulator, lasting) as lab:
        assert (await lab.ask("after")).status_code == 200
        second = (await lab.get("/attestation", nonce=secrets.token_hex(8))).json()["manifest"]
    for key in ("checkpoint_key", "settlement_key", "receipt_key", "sealing_key"):
        assert second[key] != first[key], "a log that begins has a vault made for it, whatever the host kept"


async def test_an_image_that_the_key_policy_does_not_name_gets_no_vault(
    emulator: Emulator, image: Path, tmp_path: Path
) -> None:
    """The same image under another configuration: PCR16 differs, so KMS gives nothing, and the refusal says why."""
    lasting = LabFolder(tmp_path, image)
    configuration = lasting.configuration.replace(b'"fee_bps":500', b'"fee_bps":501')
    assert configuration != lasting.configuration
    (tmp_path / "configuration.json").write_bytes(configuration)
    async with running_lab(emulator, lasting, nodes=0) as lab:
        log = await lab.until_logged("AccessDenied")
    assert "PCR16" in log
    assert "enclave link up" not in log
