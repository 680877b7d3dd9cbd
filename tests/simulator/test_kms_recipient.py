"""Who may receive from the simulated KMS: a fresh document of the right platform that names an RSA-2048 key."""

import datetime as dt
import random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.attestation.forge import NOW_MS
from tests.simulator.kms_bench import RECIPIENT, document, pcr16, spki
from tests.simulator.kms_call import SERVICE, call, generate, recipient, refused, service

from pinaivu_simulator.kms.judge import Attested
from pinaivu_simulator.nsm import SIMULATED_MEASUREMENTS
from pinaivu_simulator.pki import SimulatedPki

OTHER_PKI = SimulatedPki.create(
    now=dt.datetime.fromtimestamp(NOW_MS // 1000, dt.UTC), entropy=random.Random("other").randbytes
)
MINUTE_MS = 60_000


@pytest.mark.parametrize(
    "raw",
    [
        document(now_ms=NOW_MS - 5 * MINUTE_MS - 1),
        document(now_ms=NOW_MS + MINUTE_MS + 1000),
        document(pki=OTHER_PKI),
        document()[:-1],
        document() + b"\x00",
        b"no document",
    ],
    ids=["too old", "from the future", "another root", "cut", "longer", "garbage"],
)
def test_a_document_that_does_not_hold_is_no_valid_request(raw: bytes) -> None:
    assert refused(SERVICE, generate(Recipient=recipient(raw))) == "ValidationException"


def test_a_document_serves_for_five_minutes() -> None:
    assert call(SERVICE, generate(), now_ms=NOW_MS + 5 * MINUTE_MS)[0] == 200
    assert refused(SERVICE, generate(), now_ms=NOW_MS + 5 * MINUTE_MS + 1) == "ValidationException"


def der(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "key",
    [
        der(rsa.generate_private_key(public_exponent=65_537, key_size=1024)),  # noqa: S505  refused, that is the point
        der(rsa.generate_private_key(public_exponent=65_537, key_size=3072)),
        der(rsa.generate_private_key(public_exponent=3, key_size=2048)),
        der(ec.generate_private_key(ec.SECP256R1())),
        RECIPIENT.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1),
        RECIPIENT.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        spki(RECIPIENT) + b"\x00",
        spki(RECIPIENT)[:-1],
        b"key",
    ],
    ids=["RSA-1024", "RSA-3072", "e = 3", "P-256", "PKCS1", "PEM", "longer", "cut", "garbage"],
)
def test_only_an_rsa_2048_key_in_der_can_receive(key: bytes) -> None:
    assert refused(SERVICE, generate(Recipient=recipient(document(key)))) == "ValidationException"


def test_a_judge_of_another_platform_can_take_the_place() -> None:
    """The QEMU lab's documents are signed by nobody; its judge is still held to age, key and policy."""
    measured = dict(SIMULATED_MEASUREMENTS) | {16: bytes.fromhex(pcr16())}
    for judged, expected in (
        (Attested(pcrs=measured, public_key=spki(RECIPIENT), timestamp_ms=NOW_MS), None),
        (Attested(pcrs=measured, public_key=spki(RECIPIENT), timestamp_ms=NOW_MS - 300_001), "ValidationException"),
        (Attested(pcrs=measured, public_key=None, timestamp_ms=NOW_MS), "ValidationException"),
        (
            Attested(pcrs=SIMULATED_MEASUREMENTS, public_key=spki(RECIPIENT), timestamp_ms=NOW_MS),
            "AccessDeniedException",
        ),
        (Attested(pcrs={}, public_key=spki(RECIPIENT), timestamp_ms=NOW_MS), "AccessDeniedException"),
    ):
        seen: list[tuple[bytes, int]] = []

        def judge(raw: bytes, now_ms: int, judged: Attested = judged, seen: list[Any] = seen) -> Attested:
            seen.append((raw, now_ms))
            return judged

        status, said = call(service(judge=judge), generate(Recipient=recipient(b"unsigned")))
        assert seen == [(b"unsigned", NOW_MS)]
        assert said.get("__type") == expected
        assert status == (200 if expected is None else 400)
