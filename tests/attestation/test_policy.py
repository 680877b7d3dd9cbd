"""Policy and bindings: which measurements are trusted, and what a document is bound to."""

import hashlib

import pytest
from tests.attestation.forge import (
    ALLOWED,
    DOCUMENT,
    GOOD,
    MANIFEST_SHA256,
    NONCE,
    NOW_MS,
    POLICY,
    PUBLIC_KEY,
    ROOT,
    judge,
)

from pinaivu_shared.attestation.binding import (
    require_configuration,
    require_nonce,
    require_public_key,
    require_user_data,
)
from pinaivu_shared.attestation.policy import MeasurementPolicy, WrongMeasurementError, configuration_pcr
from pinaivu_shared.attestation.verify import verify_archived, verify_archived_at, verify_live, verify_recent
from pinaivu_shared.errors import CallerError, VerificationError
from pinaivu_simulator.nsm import SIMULATED_MEASUREMENTS

OTHER = b"\x01" * 48
CONFIGURATION = b'{"origin":"example.com/log"}'


def pcrs(**changes: bytes) -> dict[int, bytes]:
    return dict(SIMULATED_MEASUREMENTS) | {int(name[3:]): value for name, value in changes.items()}


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_document_of_debug_mode_is_refused(index: int) -> None:
    """Attack 34: any of the three is enough; PCR3 and PCR4 are not zero in debug mode."""
    with pytest.raises(WrongMeasurementError, match="debug mode") as refused:
        judge(GOOD.document(pcrs=pcrs(**{f"pcr{index}": bytes(48), "pcr3": OTHER, "pcr4": OTHER})))
    assert refused.value.check == f"PCR{index}"
    assert refused.value.actual == bytes(48)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_another_image_is_refused(index: int) -> None:
    """Attack 35: bytes moved between ramdisks leave PCR0 as it was, so each of the three is compared."""
    with pytest.raises(WrongMeasurementError) as refused:
        judge(GOOD.document(pcrs=pcrs(**{f"pcr{index}": OTHER})))
    assert (refused.value.index, refused.value.check) == (index, f"PCR{index}")
    assert (refused.value.expected, refused.value.actual) == (ALLOWED[index], OTHER)


def test_every_entry_point_applies_the_policy() -> None:
    strict = MeasurementPolicy(ALLOWED | {1: frozenset((OTHER,))})
    with pytest.raises(WrongMeasurementError):
        verify_live(DOCUMENT, root=ROOT, policy=strict, nonce=NONCE, now_ms=NOW_MS)
    with pytest.raises(WrongMeasurementError):
        verify_recent(DOCUMENT, root=ROOT, policy=strict, now_ms=NOW_MS)
    with pytest.raises(WrongMeasurementError):
        verify_archived(DOCUMENT, root=ROOT, policy=strict)
    with pytest.raises(WrongMeasurementError):
        verify_archived_at(DOCUMENT, root=ROOT, policy=strict, at_ms=NOW_MS)


def test_one_of_several_allowed_values_is_enough() -> None:
    both = MeasurementPolicy({index: allowed | {OTHER} for index, allowed in ALLOWED.items()})
    both.require(SIMULATED_MEASUREMENTS)
    both.require(dict.fromkeys((0, 1, 2), OTHER))


def test_a_register_the_policy_names_must_be_locked() -> None:
    strict = MeasurementPolicy(ALLOWED | {16: frozenset((OTHER,))})
    with pytest.raises(WrongMeasurementError, match="not locked") as refused:
        verify_archived(DOCUMENT, root=ROOT, policy=strict)
    assert (refused.value.index, refused.value.actual) == (16, None)


@pytest.mark.parametrize(
    "registers",
    [
        pytest.param({}, id="nothing"),
        pytest.param({0: ALLOWED[0]}, id="PCR0 only"),
        pytest.param({0: ALLOWED[0], 1: ALLOWED[1]}, id="without PCR2"),
        pytest.param(ALLOWED | {0: frozenset((bytes(48),))}, id="PCR0 zero"),
        pytest.param(ALLOWED | {2: ALLOWED[2] | {bytes(48)}}, id="PCR2 also zero"),
        pytest.param(ALLOWED | {1: frozenset[bytes]()}, id="no value for PCR1"),
        pytest.param(ALLOWED | {1: frozenset((bytes(32),))}, id="a value of 32 bytes"),
        pytest.param(ALLOWED | {32: ALLOWED[0]}, id="PCR32"),
        pytest.param(ALLOWED | {-1: ALLOWED[0]}, id="PCR-1"),
    ],
)
def test_a_policy_that_would_trust_too_much_cannot_be_made(registers: dict[int, frozenset[bytes]]) -> None:
    with pytest.raises(CallerError):
        MeasurementPolicy(registers)


def test_the_configuration_is_extended_once_into_pcr16() -> None:
    expected = hashlib.sha384(bytes(48) + hashlib.sha384(CONFIGURATION).digest()).digest()
    assert configuration_pcr(CONFIGURATION) == expected
    document = judge(GOOD.document(pcrs=pcrs(pcr16=expected)))
    require_configuration(document, CONFIGURATION)
    with pytest.raises(WrongMeasurementError) as refused:
        require_configuration(document, CONFIGURATION + b" ")
    assert refused.value.check == "PCR16"


def test_an_enclave_that_did_not_lock_pcr16_has_no_configuration() -> None:
    with pytest.raises(WrongMeasurementError, match="not locked"):
        require_configuration(judge(DOCUMENT), CONFIGURATION)


def test_a_document_is_bound_to_its_key_its_manifest_and_its_nonce() -> None:
    document = judge(DOCUMENT)
    require_public_key(document, PUBLIC_KEY)
    require_user_data(document, MANIFEST_SHA256)
    require_nonce(document, NONCE)


@pytest.mark.parametrize("other", [b"", b"another", PUBLIC_KEY[:-1], PUBLIC_KEY + b"\0"])
def test_a_document_of_another_key_or_manifest_is_refused(other: bytes) -> None:
    """Attack 51: a right document beside a manifest or receipt key that is not its own."""
    document = judge(DOCUMENT)
    for require, check in (
        (require_public_key, "attestation key"),
        (require_user_data, "attestation manifest"),
        (require_nonce, "attestation nonce"),
    ):
        with pytest.raises(VerificationError) as refused:
            require(document, other)
        assert refused.value.check == check


def test_a_document_without_the_field_is_bound_to_nothing() -> None:
    document = judge(GOOD.document(public_key=None, user_data=None, nonce=None))
    for require in (require_public_key, require_user_data, require_nonce):
        with pytest.raises(VerificationError, match="has none"):
            require(document, b"")


def test_the_policy_of_the_tests_is_that_of_the_simulator() -> None:
    assert POLICY.pcrs == ALLOWED
