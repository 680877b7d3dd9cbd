"""The simulated PKI has the shape of Nitro's (nitro.md B.3), measured against the chain of the genuine document."""

import base64
import datetime as dt
import random
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID
from tests.attestation.forge import NOW, NOW_MS, PKI, POLICY

from pinaivu_shared.attestation.document import parse_unverified
from pinaivu_shared.attestation.verify import verify_archived
from pinaivu_simulator.nsm import SimulatedNsm
from pinaivu_simulator.pki import SimulatedPki

GENUINE = base64.b64decode((Path(__file__).parents[1] / "vectors/nitro/evervault-beta-2022-10-13.b64").read_bytes())
LEVELS = ["root", "regional", "zonal", "instance", "leaf"]


def certificates(raw: bytes) -> list[x509.Certificate]:
    document = parse_unverified(raw)
    return [x509.load_der_x509_certificate(der) for der in (*document.cabundle, document.certificate)]


def simulated() -> bytes:
    nsm = SimulatedNsm(PKI, now_ms=lambda: NOW_MS, entropy=random.Random("shape").randbytes)
    return nsm.attest(public_key=None, user_data=None, nonce=None)


def extensions(certificate: x509.Certificate) -> dict[str, tuple[bool, object]]:
    """Names, criticality, and of two kinds the values."""
    told = (ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE)
    return {
        extension.oid.dotted_string: (extension.critical, extension.value if extension.oid in told else None)
        for extension in certificate.extensions
    }


@pytest.mark.parametrize("level", range(5), ids=LEVELS)
def test_each_level_has_the_extensions_of_its_genuine_counterpart(level: int) -> None:
    """The instance has key identifiers, which genuine ones have since 2024 and the vector of 2022 has not."""
    ours, theirs = extensions(certificates(simulated())[level]), extensions(certificates(GENUINE)[level])
    if LEVELS[level] == "instance":
        for oid in (ExtensionOID.SUBJECT_KEY_IDENTIFIER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER):
            assert ours.pop(oid.dotted_string) == (False, None)
    assert ours == theirs


@pytest.mark.parametrize("level", range(5), ids=LEVELS)
def test_each_level_has_key_hash_and_subject_of_its_genuine_counterpart(level: int) -> None:
    ours, theirs = certificates(simulated())[level], certificates(GENUINE)[level]
    assert ours.signature_algorithm_oid == theirs.signature_algorithm_oid
    assert isinstance(ours.public_key(), ec.EllipticCurvePublicKey)
    assert {attribute.oid for attribute in ours.subject} <= {attribute.oid for attribute in theirs.subject}
    name = ours.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    assert str(name).endswith((".simulator.nitro-enclaves", "simulator.nitro-enclaves", ".local-1.simulator"))


def test_lifetimes_are_those_of_nitro() -> None:
    lifetimes = [made.not_valid_after_utc - made.not_valid_before_utc for made in certificates(simulated())[1:]]
    assert lifetimes == [
        dt.timedelta(days=20, hours=1),
        dt.timedelta(days=5, hours=14),
        dt.timedelta(hours=24),
        dt.timedelta(hours=3, seconds=3),
    ]


def test_a_leaf_is_not_backdated() -> None:
    assert certificates(simulated())[4].not_valid_before_utc == NOW


def test_a_leafs_serial_is_the_enclaves_name_and_the_time_of_issue() -> None:
    """The vector's leaf was backdated by the 3 seconds that its lifetime exceeds three hours by."""
    for raw in (simulated(), GENUINE):
        leaf = certificates(raw)[4]
        enclave = int(parse_unverified(raw).module_id.partition("-enc")[2], 16)
        assert leaf.serial_number >> 64 == enclave
        assert 0 <= leaf.serial_number % (1 << 64) - leaf.not_valid_before_utc.timestamp() <= 3


def test_a_root_that_was_kept_is_the_same_root() -> None:
    restored = SimulatedPki.from_bytes(PKI.to_bytes())
    assert restored.trust_root == PKI.trust_root
    assert restored.to_bytes() == PKI.to_bytes()
    nsm = SimulatedNsm(restored, now_ms=lambda: NOW_MS, entropy=random.Random(2).randbytes)
    verify_archived(nsm.attest(public_key=None, user_data=None, nonce=None), root=PKI.trust_root, policy=POLICY)


@pytest.mark.parametrize("stored", [b"", b"x", PKI.to_bytes()[:500], PKI.trust_root_pem.encode()])
def test_bytes_that_are_no_root_are_refused(stored: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whatever the parser says
        SimulatedPki.from_bytes(stored)


def test_a_key_and_a_certificate_of_two_roots_are_refused() -> None:
    other = SimulatedPki.create(now=NOW, entropy=random.Random("other").randbytes)
    mixed = other.to_bytes().partition(b"-----BEGIN CERT")[0] + PKI.trust_root_pem.encode()
    with pytest.raises(ValueError, match="not the key and certificate"):
        SimulatedPki.from_bytes(mixed)


def test_a_seed_gives_the_same_root() -> None:
    roots = {SimulatedPki.create(now=NOW, entropy=random.Random(seed).randbytes).root.der for seed in (5, 5, 6)}
    assert len(roots) == 2
