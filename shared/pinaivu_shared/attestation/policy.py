"""Which measurements are trusted: the policy no verification can leave out.

PCR0 is the image, PCR1 its boot part, PCR2 the application. PCR0 alone does not see the boundaries between the
parts, so a policy pins all three. PCR16 is the configuration, extended once at boot.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pinaivu_shared.attestation.document import MAX_PCRS, PCR_BYTES
from pinaivu_shared.errors import CallerError, VerificationError

IMAGE_PCRS: Final = (0, 1, 2)
CONFIGURATION_PCR: Final = 16
ZERO_PCR: Final = bytes(PCR_BYTES)


class WrongMeasurementError(VerificationError):
    """A register is not what the policy allows. `check` is "PCR<index>"; `actual` is None where it is absent."""

    def __init__(self, index: int, *, expected: frozenset[bytes], actual: bytes | None, detail: str) -> None:
        super().__init__(f"PCR{index}", detail)
        self.index, self.expected, self.actual = index, expected, actual


class MeasurementPolicy:
    """For each named register the values allowed; registers that are not named may have any value.

    `pcrs`: index 0..31 -> one or more values of 48 bytes. PCR0, 1 and 2 must be named, and zero is no value for
    them: it is what debug mode shows. Raises CallerError for anything else, since whoever wrote it trusts nothing.
    """

    def __init__(self, pcrs: Mapping[int, frozenset[bytes]]) -> None:
        for index in IMAGE_PCRS:
            if index not in pcrs:
                raise CallerError(f"measurement policy: PCR{index} is missing")
            if ZERO_PCR in pcrs[index]:
                raise CallerError(f"measurement policy: PCR{index} must not be zero")
        for index, allowed in pcrs.items():
            if not 0 <= index < MAX_PCRS:
                raise CallerError(f"measurement policy: there is no PCR{index}")
            if not allowed or any(len(value) != PCR_BYTES for value in allowed):
                raise CallerError(f"measurement policy: PCR{index} needs values of {PCR_BYTES} bytes")
        self.pcrs: Mapping[int, frozenset[bytes]] = MappingProxyType({n: frozenset(pcrs[n]) for n in sorted(pcrs)})

    @classmethod
    def exactly(cls, pcrs: Mapping[int, bytes]) -> "MeasurementPolicy":
        """The policy with one value for each register: one image, or one image with one configuration."""
        return cls({index: frozenset({value}) for index, value in pcrs.items()})

    def require(self, pcrs: Mapping[int, bytes]) -> None:
        """Compare a document's registers; raises WrongMeasurementError for the first that is not allowed."""
        for index in IMAGE_PCRS:
            if pcrs.get(index) == ZERO_PCR:
                detail = "zero, so the enclave ran in debug mode and its memory was open to the host"
                raise WrongMeasurementError(index, expected=self.pcrs[index], actual=ZERO_PCR, detail=detail)
        for index, allowed in self.pcrs.items():
            require_measurement(pcrs, index, allowed)


def require_measurement(pcrs: Mapping[int, bytes], index: int, allowed: frozenset[bytes]) -> None:
    """One register must be present and have one of the allowed values, or WrongMeasurementError."""
    actual = pcrs.get(index)
    if actual is None:
        detail = "absent: the register was not locked"
        raise WrongMeasurementError(index, expected=allowed, actual=None, detail=detail)
    if actual not in allowed:
        detail = f"is {actual.hex()}, expected {' or '.join(sorted(value.hex() for value in allowed))}"
        raise WrongMeasurementError(index, expected=allowed, actual=actual, detail=detail)


def extended(value: bytes, data: bytes) -> bytes:
    """A register's value after ExtendPCR: SHA-384(value || data), data of any length."""
    return hashlib.sha384(value + data).digest()


def configuration_pcr(configuration: bytes) -> bytes:
    """PCR16 of an enclave that booted with these configuration bytes: zero, extended once with their SHA-384."""
    return extended(ZERO_PCR, hashlib.sha384(configuration).digest())
