"""One real request through a host, AF_VSOCK and the enclave's image, and what verifiers say to its attestation."""

import base64
import datetime as dt
import json
import secrets
from pathlib import Path

import pytest
from tests.boot.lab import Lab, LabFolder, image_pcrs, now_ms, read_qemu, running_lab

from pinaivu_shared.attestation.policy import IMAGE_PCRS, configuration_pcr
from pinaivu_shared.bundle import parse_bundle, verify_bundle
from pinaivu_shared.epoch import verify_epoch_archived, verify_epoch_live
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.trust import TrustFile, parse_trust
from pinaivu_simulator.pki import SimulatedPki
from pinaivu_simulator.qemu import Emulator

pytestmark = pytest.mark.trio


def trust_files(lab: Lab, log_key: str) -> dict[str, TrustFile]:
    """A trust file for each platform, right in all but the signature that QEMU cannot make."""
    root = SimulatedPki.create(now=dt.datetime.now(dt.UTC), entropy=secrets.token_bytes).trust_root_pem
    pcrs = {str(index): value.hex() for index, value in zip(IMAGE_PCRS, image_pcrs(lab.lasting.image), strict=True)}
    common = {"pcrs": pcrs, "origin": lab.lasting.origin, "log_keys": [log_key], "witnesses": [], "quorum": 0}
    return {
        platform: parse_trust(
            json.dumps({"platform": platform, **common, **({"root": root} if platform != "nitro" else {})}).encode()
        )
        for platform in ("nitro", "qemu", "simulator")
    }


async def test_a_request_is_served_by_the_image_that_was_computed(
    emulator: Emulator, image: Path, tmp_path: Path
) -> None:
    lasting = LabFolder(tmp_path, image)
    async with running_lab(emulator, lasting) as lab:
        answer = await lab.ask("hello from outside")
        assert answer.status_code == 200, answer.text
        assert "hello from outside" in answer.json()["choices"][0]["message"]["content"]
        request_id = answer.json()["request_id"]
        receipt = (await lab.get(f"/receipts/{request_id}")).json()
        assert (receipt["outcome"], receipt["log"]["origin"]) == ("completed", lasting.origin)

        nonce = secrets.token_bytes(32)
        attested = (await lab.get("/attestation", nonce=nonce.hex())).json()
        document = base64.b64decode(attested["document"])
        said = read_qemu(document)
        assert tuple(said["pcrs"][index] for index in IMAGE_PCRS) == image_pcrs(image)
        assert said["pcrs"][16] == configuration_pcr(lasting.configuration)
        assert sorted(said["pcrs"]) == list(range(32)), "a register that is not locked is not in the document"
        assert said["nonce"] == nonce

        bundle = (await lab.get(f"/receipts/{request_id}/bundle")).content
        manifest = json.dumps(attested["manifest"], separators=(",", ":"), sort_keys=True).encode()
        log_key = _log_key(attested["manifest"])
        for trust in trust_files(lab, log_key).values():
            with pytest.raises(VerificationError, match="attestation document"):
                verify_epoch_live(document, manifest, lasting.configuration, trust=trust, nonce=nonce, now_ms=now_ms())
            with pytest.raises(VerificationError, match="attestation document"):
                verify_epoch_archived(document, manifest, lasting.configuration, trust=trust)
            with pytest.raises(VerificationError, match="attestation document"):
                verify_bundle(parse_bundle(bundle), trust, request=None, choices=None)


def _log_key(manifest: dict[str, str]) -> str:
    from pinaivu_shared.log.keys import Algorithm, VerifierKey, format_vkey  # noqa: PLC0415

    return format_vkey(VerifierKey(manifest["origin"], Algorithm.ED25519, bytes.fromhex(manifest["checkpoint_key"])))
