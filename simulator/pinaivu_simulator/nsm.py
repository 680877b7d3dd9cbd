"""A simulated Nitro Secure Module: the production interface over a platform that is trusted for nothing.

Registers, locks and errors behave as the device's (AWS nsm-check.rs, QEMU hw/virtio/virtio-nsm.c), documents are
written as Nitro writes them and signed under the simulated root, never under a real one.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from typing import Final

import cbor2
from cryptography import x509

from pinaivu_enclave.nsm import (
    MAX_RANDOM_BYTES,
    MAX_REQUEST_BYTES,
    InputTooLargeError,
    InvalidArgumentError,
    InvalidIndexError,
    NsmDescription,
    ReadOnlyIndexError,
)
from pinaivu_shared.attestation.document import MAX_OPTIONAL_BYTES, MAX_PCRS
from pinaivu_shared.attestation.policy import ZERO_PCR, extended
from pinaivu_simulator.chain import EnclaveChain, EnclaveName
from pinaivu_simulator.cose import PayloadForm, encode_payload, sign1
from pinaivu_simulator.pki import Entropy, SimulatedPki

LOCKED_AT_START: Final = 16
ROLE: Final = "arn:aws:iam::000000000000:role/pinaivu-simulator"

SIMULATED_MEASUREMENTS: Final[Mapping[int, bytes]] = {
    index: hashlib.sha384(f"pinaivu simulator: {part}; no image was measured".encode()).digest()
    for index, part in ((0, "image"), (1, "kernel and boot ramdisk"), (2, "application ramdisk"))
}
"""PCR0, 1 and 2 of every simulated enclave, for the policy of a trust file with platform `simulator`."""


class SimulatedNsm:
    """The `NsmDevice` of one simulated enclave, from its boot to its end.

    `now_ms` gives Unix time in milliseconds, `entropy(size)` random bytes; with both seeded, every byte that comes
    out is fixed. `measurements` replaces PCR0, 1 and 2: zeros are what debug mode shows.
    """

    def __init__(
        self,
        pki: SimulatedPki,
        *,
        now_ms: Callable[[], int],
        entropy: Entropy,
        measurements: Mapping[int, bytes] = SIMULATED_MEASUREMENTS,
        form: PayloadForm = "indefinite",
    ) -> None:
        self._pki, self._now_ms, self._entropy, self._form = pki, now_ms, entropy, form
        self._name = EnclaveName.draw(now_ms=now_ms(), entropy=entropy)
        self._chain = EnclaveChain(pki, self._name, entropy)
        self._locked = set(range(LOCKED_AT_START))
        self._pcrs = [ZERO_PCR] * MAX_PCRS
        self._pcrs[3] = extended(ZERO_PCR, ROLE.encode())
        self._pcrs[4] = extended(ZERO_PCR, self._name.instance.encode())
        for index, value in measurements.items():
            self._pcrs[index] = value

    @property
    def trust_root(self) -> x509.Certificate:
        """The root under which this platform's documents verify."""
        return self._pki.trust_root

    def describe(self) -> NsmDescription:
        """See `NsmDevice`."""
        return NsmDescription(
            version=(1, 0, 0),
            module_id=self._name.module_id,
            max_pcrs=MAX_PCRS,
            locked_pcrs=frozenset(self._locked),
            digest="SHA384",
        )

    def describe_pcr(self, index: int) -> tuple[bool, bytes]:
        """See `NsmDevice`."""
        _require_index(index)
        return index in self._locked, self._pcrs[index]

    def extend_pcr(self, index: int, data: bytes) -> bytes:
        """See `NsmDevice`."""
        _require_fitting({"ExtendPCR": {"index": index, "data": data}})
        self._require_unlocked(index)
        self._pcrs[index] = extended(self._pcrs[index], data)
        return self._pcrs[index]

    def lock_pcr(self, index: int) -> None:
        """See `NsmDevice`."""
        self._require_unlocked(index)
        self._locked.add(index)

    def lock_pcrs(self, count: int) -> None:
        """See `NsmDevice`."""
        if not 0 <= count <= MAX_PCRS:
            raise InvalidIndexError(f"range {count}, at most {MAX_PCRS}")
        self._locked.update(range(count))

    def attest(self, *, public_key: bytes | None, user_data: bytes | None, nonce: bytes | None) -> bytes:
        """See `NsmDevice`."""
        asked = {"user_data": user_data, "nonce": nonce, "public_key": public_key}
        _require_fitting({"Attestation": asked})
        if any(value is not None and len(value) > MAX_OPTIONAL_BYTES for value in asked.values()):
            raise InputTooLargeError(f"a field has more than {MAX_OPTIONAL_BYTES} bytes")
        if public_key == b"":
            raise InvalidArgumentError("public_key is empty")
        now_ms = self._now_ms()
        leaf, cabundle = self._chain.current(dt.datetime.fromtimestamp(now_ms // 1000, dt.UTC))
        fields = {
            "module_id": self._name.module_id,
            "digest": "SHA384",
            "timestamp": now_ms,
            "pcrs": {index: self._pcrs[index] for index in sorted(self._locked)},
            "certificate": leaf.der,
            "cabundle": list(cabundle),
            "public_key": public_key,
            "user_data": user_data,
            "nonce": nonce,
        }
        return sign1(encode_payload(fields, self._form), leaf.key)

    def random(self, size: int) -> bytes:
        """See `NsmDevice`."""
        if not 0 < size <= MAX_RANDOM_BYTES:
            raise InvalidArgumentError(f"{size} random bytes, 1 to {MAX_RANDOM_BYTES} can be asked for")
        return self._entropy(size)

    def _require_unlocked(self, index: int) -> None:
        _require_index(index)
        if index in self._locked:
            raise ReadOnlyIndexError(f"PCR{index} is locked")


def _require_index(index: int) -> None:
    if not 0 <= index < MAX_PCRS:
        raise InvalidIndexError(f"there is no PCR{index}")


def _require_fitting(request: object) -> None:
    """The driver refuses requests above 4096 bytes, whatever they ask for."""
    size = len(cbor2.dumps(request))
    if size > MAX_REQUEST_BYTES:
        raise InputTooLargeError(f"request of {size} bytes, at most {MAX_REQUEST_BYTES}")
