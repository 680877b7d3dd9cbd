"""The trust file of a simulated network, written as its users would: a fresh attestation, judged first."""

from pinaivu_shared.attestation.policy import MeasurementPolicy
from pinaivu_shared.enrolment import enrol, read_answer
from pinaivu_simulator.clock import now_ms
from pinaivu_simulator.nsm import SIMULATED_MEASUREMENTS
from pinaivu_simulator.pki import SimulatedPki


def enrol_simulated(answer: bytes, pki: SimulatedPki, nonce: bytes) -> bytes:
    """The trust file for the enclave that answered `GET /v1/attestation`; VerificationError if it is not ours."""
    return enrol(
        read_answer(answer),
        platform="simulator",
        root=pki.trust_root,
        policy=MeasurementPolicy.exactly(SIMULATED_MEASUREMENTS),
        nonce=nonce,
        now_ms=now_ms(),
    )
