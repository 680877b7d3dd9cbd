"""The genuine document of AWS under the pinned root, and simulated ones that must never pass for it."""

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.attestation.forge import DOCUMENT, GOOD, NONCE, NOW_MS, PKI, POLICY, ROOT

from pinaivu_shared.attestation.document import parse_unverified
from pinaivu_shared.attestation.policy import MeasurementPolicy
from pinaivu_shared.attestation.roots import AWS_NITRO_ROOT_PEM, AWS_NITRO_ROOT_SHA256, aws_nitro_root, load_root
from pinaivu_shared.attestation.verify import verify_archived, verify_archived_at, verify_live, verify_recent
from pinaivu_shared.errors import UnreadableError, VerificationError

VECTORS = Path(__file__).parents[1] / "vectors" / "nitro"
GENUINE = base64.b64decode((VECTORS / "evervault-beta-2022-10-13.b64").read_bytes())
MADE_MS = 1_665_651_482_136  # 2022-10-13 08:58:02 UTC
IMAGE = MeasurementPolicy.exactly({index: parse_unverified(GENUINE).pcrs[index] for index in (0, 1, 2)})


def test_the_pinned_root_is_the_one_aws_publishes() -> None:
    assert (VECTORS / "aws-nitro-root-g1.pem").read_text() == AWS_NITRO_ROOT_PEM
    assert hashlib.sha256(aws_nitro_root().public_bytes(Encoding.DER)).hexdigest() == AWS_NITRO_ROOT_SHA256


def test_a_genuine_document_is_accepted_at_its_own_time() -> None:
    document = verify_archived(GENUINE, root=aws_nitro_root(), policy=IMAGE)
    assert document.module_id == "i-020b6af9246d90e92-enc0183d09086c24190"
    assert document.timestamp_ms == MADE_MS
    assert sorted(document.pcrs) == list(range(16))
    assert (document.public_key, document.user_data) == (None, None)
    assert document.nonce is not None
    assert len(document.nonce) == 256
    assert document.sha256 == hashlib.sha256(GENUINE).digest()


def test_a_genuine_document_names_its_instance_in_pcr4() -> None:
    document = verify_archived(GENUINE, root=aws_nitro_root(), policy=IMAGE)
    assert document.pcrs[4] == hashlib.sha384(bytes(48) + document.module_id.split("-enc")[0].encode()).digest()


def test_a_genuine_document_was_live_when_it_was_made() -> None:
    nonce = parse_unverified(GENUINE).nonce
    assert nonce is not None
    verify_live(GENUINE, root=aws_nitro_root(), policy=IMAGE, nonce=nonce, now_ms=MADE_MS + 1000)
    verify_archived_at(GENUINE, root=aws_nitro_root(), policy=IMAGE, at_ms=MADE_MS + 3_600_000)


@pytest.mark.parametrize("later_ms", [6 * 60_000, 4 * 3_600_000, 4 * 365 * 86_400_000])
def test_a_genuine_document_is_not_live_later(later_ms: int) -> None:
    with pytest.raises(VerificationError):
        verify_recent(GENUINE, root=aws_nitro_root(), policy=IMAGE, now_ms=MADE_MS + later_ms)


def test_a_genuine_document_of_another_image_is_refused() -> None:
    with pytest.raises(VerificationError) as refused:
        verify_archived(GENUINE, root=aws_nitro_root(), policy=POLICY)
    assert refused.value.check == "PCR0"


def test_a_genuine_document_is_refused_under_the_simulated_root() -> None:
    with pytest.raises(VerificationError) as refused:
        verify_archived(GENUINE, root=ROOT, policy=IMAGE)
    assert refused.value.check == "attestation chain"


@pytest.mark.parametrize("first", [PKI.root.der, aws_nitro_root().public_bytes(Encoding.DER)])
def test_a_simulated_document_is_refused_under_the_pinned_root(first: bytes) -> None:
    cabundle = [first, *(authority.der for authority in GOOD.chain[1:-1])]
    with pytest.raises(VerificationError) as refused:
        verify_archived(GOOD.document(cabundle=cabundle), root=aws_nitro_root(), policy=POLICY)
    assert refused.value.check == "attestation chain"


def test_a_simulated_document_is_refused_live_under_the_pinned_root() -> None:
    with pytest.raises(VerificationError):
        verify_live(DOCUMENT, root=aws_nitro_root(), policy=POLICY, nonce=NONCE, now_ms=NOW_MS)


@pytest.mark.parametrize(
    "pem",
    [
        pytest.param("", id="empty"),
        pytest.param("no certificate", id="text"),
        pytest.param(AWS_NITRO_ROOT_PEM * 2, id="two certificates"),
        pytest.param(AWS_NITRO_ROOT_PEM[:400], id="truncated"),
        pytest.param(AWS_NITRO_ROOT_PEM.replace("MIIC", "MIID"), id="broken DER"),
        pytest.param(AWS_NITRO_ROOT_PEM.replace("MIIC", "MI é"), id="not ASCII"),
        pytest.param("\ud800" + AWS_NITRO_ROOT_PEM, id="a lone surrogate"),
    ],
)
def test_a_root_that_cannot_be_read_is_no_evidence_but_our_own_input(pem: str) -> None:
    with pytest.raises(UnreadableError):
        load_root(pem)


def test_a_root_is_read_from_a_trust_file() -> None:
    assert load_root(PKI.trust_root_pem) == PKI.trust_root
