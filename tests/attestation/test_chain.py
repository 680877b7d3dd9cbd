"""Chain: every certificate path that Nitro does not have is refused, each in a correctly signed document."""

import datetime as dt
import random
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.attestation.forge import DOCUMENT, GOOD, NOW, NOW_MS, PKI, POLICY, ROOT, Forge, judge

from pinaivu_shared.attestation.verify import verify_archived, verify_archived_at, verify_recent
from pinaivu_shared.errors import VerificationError
from pinaivu_simulator.pki import INSTANCE, LEAF, REGIONAL, ZONAL, SimulatedPki

CHAIN = [authority.der for authority in GOOD.chain[:-1]]
HOUR, HOUR_MS = dt.timedelta(hours=1), 3_600_000
LEAF_END_MS = NOW_MS // 1000 * 1000 + 3 * HOUR_MS + 3000
STRANGER = Forge(SimulatedPki.create(now=NOW, entropy=random.Random("stranger").randbytes))
STRANGER_CHAIN = [authority.der for authority in STRANGER.chain[:-1]]
P256 = ec.derive_private_key(77, ec.SECP256R1())
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")


def usage(*, signature: bool, cert: bool) -> x509.KeyUsage:
    """Nitro's leaves have `signature` and not `cert`."""
    return x509.KeyUsage(
        digital_signature=signature,
        content_commitment=True,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=cert,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def of(**changes: Any) -> bytes:
    return Forge(PKI, **changes).document()


def leaf(**changes: Any) -> bytes:
    return of(leaf={"profile": replace(LEAF, **changes)})


def instance(**changes: Any) -> bytes:
    return of(instance={"profile": replace(INSTANCE, **changes)})


def below(profile_of_the_new_last: Any, **changes: Any) -> bytes:
    forge = Forge(PKI, **changes)
    forge.add("below", profile=profile_of_the_new_last)
    return forge.document()


FORGED = {
    "38 other root of the same name": STRANGER.document(),
    "38 other root, replaced by the pinned one": STRANGER.document(cabundle=[CHAIN[0], *STRANGER_CHAIN[1:]]),
    "39 attacker's root after the pinned one": STRANGER.document(cabundle=[CHAIN[0], *STRANGER_CHAIN]),
    "39 attacker's chain after the whole pinned one": STRANGER.document(cabundle=[*CHAIN, *STRANGER_CHAIN[1:]]),
    "40 without root": GOOD.document(cabundle=CHAIN[1:]),
    "40 reversed": GOOD.document(cabundle=CHAIN[::-1]),
    "40 reversed below the root": GOOD.document(cabundle=[CHAIN[0], *CHAIN[:0:-1]]),
    "40 two swapped": GOOD.document(cabundle=[CHAIN[0], CHAIN[2], CHAIN[1], CHAIN[3]]),
    "40 one doubled": GOOD.document(cabundle=[*CHAIN, CHAIN[3]]),
    "40 root doubled": GOOD.document(cabundle=[CHAIN[0], *CHAIN]),
    "40 zonal missing": GOOD.document(cabundle=[CHAIN[0], CHAIN[1], CHAIN[3]]),
    "40 instance missing": GOOD.document(cabundle=CHAIN[:3]),
    "40 unrelated one added": GOOD.document(cabundle=[*CHAIN, STRANGER_CHAIN[1]]),
    "40 leaf added": GOOD.document(cabundle=[*CHAIN, GOOD.leaf.der]),
    "41 garbage as certificate": GOOD.document(certificate=bytes(600)),
    "41 garbage in cabundle": GOOD.document(cabundle=[*CHAIN[:3], bytes(600)]),
    "41 certificate with a trailing byte": GOOD.document(certificate=GOOD.leaf.der + b"\0"),
    "41 issuer with a trailing byte": GOOD.document(cabundle=[*CHAIN[:3], CHAIN[3] + b"\0"]),
    "41 root with a trailing byte": GOOD.document(cabundle=[CHAIN[0] + b"\0", *CHAIN[1:]]),
    "43 instance expired, leaf not": of(instance={"now": NOW - 25 * HOUR}),
    "43 zonal expired, leaf not": of(zonal={"now": NOW - 24 * 6 * HOUR}),
    "43 regional not yet valid": of(regional={"now": NOW + 2 * HOUR}),
    "44 leaf marked CA": leaf(ca=True),
    "44 leaf marked CA with path length": leaf(ca=True, path_length=0),
    "44 leaf without keyUsage": leaf(usage=None),
    "44 leaf with keyCertSign": leaf(usage=usage(signature=True, cert=True)),
    "44 leaf without digitalSignature": leaf(usage=usage(signature=False, cert=False)),
    "44 leaf's basicConstraints not critical": leaf(constraints_critical=False),
    "45 leaf issued by a leaf": below(LEAF),
    "46 instance without CA flag": instance(ca=False, path_length=None),
    "46 instance without keyUsage": instance(usage=None),
    "46 instance without keyCertSign": instance(usage=LEAF.usage),
    "46 instance's keyUsage not critical": instance(usage_critical=False),
    "46 instance's basicConstraints not critical": instance(constraints_critical=False),
    "47 one more authority below the instance": below(LEAF, leaf={"profile": replace(INSTANCE, path_length=None)}),
    "47 path length of zonal 0": of(zonal={"profile": replace(ZONAL, path_length=0)}),
    "47 path length of regional 1": of(regional={"profile": replace(REGIONAL, path_length=1)}),
    "48 unknown critical extension in the leaf": of(leaf={"more": ((UNKNOWN, True),)}),
    "48 unknown critical extension in the instance": of(instance={"more": ((UNKNOWN, True),)}),
    "49 leaf on P-256": of(leaf={"key": P256}),
    "49 instance on P-256": of(instance={"key": P256}),
    "49 instance on P-256, leaf signed with SHA-256": of(instance={"key": P256}, leaf={"digest": hashes.SHA256()}),
    "49 leaf signed with SHA-256": of(leaf={"digest": hashes.SHA256()}),
    "49 regional signed with SHA-256": of(regional={"digest": hashes.SHA256()}),
}


@pytest.mark.parametrize("raw", FORGED.values(), ids=FORGED)
def test_another_path_is_refused(raw: bytes) -> None:
    with pytest.raises(VerificationError) as refused:
        judge(raw)
    assert refused.value.check == "attestation chain"


def test_a_certificate_of_more_than_1024_bytes_is_refused() -> None:
    """Attack 41; it is refused for its form, before anything parses it."""
    padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.2"), bytes(600))
    with pytest.raises(VerificationError) as refused:
        judge(of(leaf={"more": ((padding, False),)}))
    assert refused.value.check == "attestation document"


@pytest.mark.parametrize("after_ms", [1, 30_000, HOUR_MS])
def test_a_timestamp_after_the_leaf_is_refused_though_judged_inside(after_ms: int) -> None:
    """Attack 29, both ways in: at a given time, and live within the allowance for skew."""
    late = GOOD.document(timestamp=LEAF_END_MS + 999 + after_ms)
    with pytest.raises(VerificationError) as archived:
        verify_archived_at(late, root=ROOT, policy=POLICY, at_ms=NOW_MS)
    with pytest.raises(VerificationError) as live:
        verify_recent(late, root=ROOT, policy=POLICY, now_ms=LEAF_END_MS)
    assert archived.value.check == live.value.check == "attestation chain"


@pytest.mark.parametrize("made_ms", [NOW_MS // 1000 * 1000 - 1, LEAF_END_MS + 1000])
def test_an_archived_document_from_outside_its_leaf_is_refused(made_ms: int) -> None:
    """Attack 42 at the document's own time: one tick before and one second after the validity."""
    with pytest.raises(VerificationError) as refused:
        judge(GOOD.document(timestamp=made_ms))
    assert refused.value.check == "attestation chain"
    judge(GOOD.document(timestamp=min(max(made_ms, NOW_MS // 1000 * 1000), LEAF_END_MS)))


def test_an_instance_certificate_that_ends_during_the_leaf_counts_at_its_own_time() -> None:
    forge = Forge(PKI, instance={"now": NOW - 23 * HOUR})
    judge(forge.document())
    with pytest.raises(VerificationError, match="certificate 3 of cabundle expired"):
        judge(forge.document(timestamp=NOW_MS + 2 * HOUR_MS))


def test_instance_certificates_without_key_identifiers_are_accepted() -> None:
    """They had none until early 2024 (B.3)."""
    judge(instance(subject_identifier=False, authority_identifier=False))


def test_a_root_that_is_not_p384_is_refused_as_well() -> None:
    name = x509.Name([])
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(P256.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + HOUR)
        .sign(P256, hashes.SHA256())
    )
    raw = GOOD.document(cabundle=[root.public_bytes(Encoding.DER), *CHAIN[1:]])
    with pytest.raises(VerificationError, match="SHA-384"):
        verify_archived(raw, root=root, policy=POLICY)


def test_the_good_document_is_good() -> None:
    assert judge(DOCUMENT).timestamp_ms == NOW_MS
