"""Who judges attestation documents for KMS: where AWS's own takes AWS's root, ours takes the simulated platform's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from pinaivu_shared.attestation.policy import IMAGE_PCRS, MeasurementPolicy
from pinaivu_shared.attestation.verify import verify_recent
from pinaivu_shared.errors import CallerError
from pinaivu_simulator.kms.policy import IMAGE_KEY, PCR_KEY, KeyPolicy, Statement

DATA_ACTIONS: Final = ("kms:Decrypt", "kms:GenerateDataKey")


@dataclass(frozen=True, kw_only=True)
class Attested:
    """What a judge believes of a document: registers that it has, 48 bytes each, and the key it names."""

    pcrs: Mapping[int, bytes]
    public_key: bytes | None
    timestamp_ms: int


Judge = Callable[[bytes, int], Attested]
"""`judge(document, now_ms)`; VerificationError where the document does not hold, CallerError where no policy does."""


class PlatformJudge:
    """Judges documents of the simulated platform by the verifier that everybody uses."""

    def __init__(self, root: x509.Certificate, policy: Callable[[], KeyPolicy]) -> None:
        self._root, self._policy = root, policy

    def __call__(self, document: bytes, now_ms: int) -> Attested:
        """See `Judge`."""
        measurements = measurements_of(self._policy())
        found = verify_recent(document, root=self._root, policy=measurements, now_ms=now_ms)
        return Attested(pcrs=found.pcrs, public_key=found.public_key, timestamp_ms=found.timestamp_ms)


def measurements_of(policy: KeyPolicy) -> MeasurementPolicy:
    """The image's registers (PCR0, 1, 2) that a key policy lets in: coarser than the policy, which is still to decide.

    CallerError where a statement allows the use of data keys and names no value for one of them, since whoever the
    policy lets in would then not be an enclave of ours; the simulator refuses to play such a key.
    """
    allowing = [
        statement
        for statement in policy.statements
        if statement.effect == "Allow" and any(statement.covers(action) for action in DATA_ACTIONS)
    ]
    return MeasurementPolicy(
        {
            index: frozenset(value for statement in allowing for value in _demanded(statement, index))
            for index in IMAGE_PCRS
        }
    )


def _demanded(statement: Statement, index: int) -> frozenset[bytes]:
    keys = (f"{PCR_KEY}{index}", IMAGE_KEY) if index == 0 else (f"{PCR_KEY}{index}",)
    for operator, key, values in statement.conditions():
        if key in keys and operator in ("StringEquals", "StringEqualsIgnoreCase"):
            return frozenset(_register(value) for value in values)
    raise CallerError(f"key policy: statement {statement.sid!r} gives data keys away without a value for PCR{index}")


def _register(value: str) -> bytes:
    try:
        return bytes.fromhex(value)
    except ValueError as error:
        raise CallerError(f"key policy: {value!r} is no register's value in hexadecimal") from error
