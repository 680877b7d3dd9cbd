"""The Nitro Secure Module as the enclave sees it: measurements, attestation documents, random bytes.

`NsmDevice` is what the real device and the simulated one implement, and one conversation runs against each
(tests/vectors/nsm). `opening.open_nsm` opens the real one: through `library` (libnsm.so) where that is present, else
through `device` (ioctl on /dev/nsm) with `messages` (the CBOR in between). What the module can answer instead of a
result is an exception each (nsm-api `ErrorCode`); none is a `PinaivuError`, because a refusal by the module means that
we asked wrongly or that the platform is broken: the enclave ends.
"""

from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

MAX_REQUEST_BYTES: Final = 0x1000  # linux/nsm.h NSM_REQUEST_MAX_SIZE
MAX_RANDOM_BYTES: Final = 256  # of one GetRandom


@dataclass(frozen=True, kw_only=True, slots=True)
class NsmDescription:
    """Answer to DescribeNSM."""

    version: tuple[int, int, int]
    module_id: str
    max_pcrs: int
    locked_pcrs: frozenset[int]
    digest: str  # "SHA384"


class NsmDevice(Protocol):
    """One enclave's module. Calls block, and the driver serves one at a time; every one may raise an NsmError."""

    def describe(self) -> NsmDescription:
        """Version, name and locked registers of the module."""
        ...

    def describe_pcr(self, index: int) -> tuple[bool, bytes]:
        """Whether the register is locked, and its 48 bytes."""
        ...

    def extend_pcr(self, index: int, data: bytes) -> bytes:
        """Set the register to SHA-384(old || data) and return that; locked ones raise ReadOnlyIndexError."""
        ...

    def lock_pcr(self, index: int) -> None:
        """Lock one register until the enclave ends; a locked one raises ReadOnlyIndexError."""
        ...

    def lock_pcrs(self, count: int) -> None:
        """Lock the registers [0, count), locked ones among them: 32 locks all."""
        ...

    def attest(self, *, public_key: bytes | None, user_data: bytes | None, nonce: bytes | None) -> bytes:
        """A signed document over the locked registers and these fields, each None or up to 1024 bytes."""
        ...

    def random(self, size: int) -> bytes:
        """`size` random bytes, 1 to 256."""
        ...


class NsmError(Exception):
    """The module refused. `name` is what it answered on the wire."""

    name: ClassVar[str]


class InvalidArgumentError(NsmError):
    """An argument has a value the module does not take."""

    name = "InvalidArgument"


class InvalidIndexError(NsmError):
    """There is no register of this number."""

    name = "InvalidIndex"


class InvalidResponseError(NsmError):
    """The answer is not one to this request."""

    name = "InvalidResponse"


class ReadOnlyIndexError(NsmError):
    """The register is locked."""

    name = "ReadOnlyIndex"


class InvalidOperationError(NsmError):
    """The module does not know or allow the request."""

    name = "InvalidOperation"


class BufferTooSmallError(NsmError):
    """The answer does not fit into the caller's buffer."""

    name = "BufferTooSmall"


class InputTooLargeError(NsmError):
    """The request is longer than 4096 bytes, or one of its fields than the module takes."""

    name = "InputTooLarge"


class InternalError(NsmError):
    """The module failed, and says no more."""

    name = "InternalError"


NSM_ERRORS: Final[dict[str, type[NsmError]]] = {
    error.name: error
    for error in (
        InvalidArgumentError,
        InvalidIndexError,
        InvalidResponseError,
        ReadOnlyIndexError,
        InvalidOperationError,
        BufferTooSmallError,
        InputTooLargeError,
        InternalError,
    )
}
"""By the name on the wire, in the order of the C enum, which starts with Success at 0."""
