"""The Nitro Secure Module through the kernel's driver: one ioctl on /dev/nsm per request (linux/nsm.h)."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from pinaivu_enclave.nsm import BufferTooSmallError, InputTooLargeError, InternalError, NsmDescription, messages
from pinaivu_enclave.nsm.random_bytes import gather

DEVICE: Final = Path("/dev/nsm")

Exchange: TypeAlias = Callable[[bytes], bytes]
"""Sends a request and returns the answer, both CBOR; or raises an NsmError."""


class KernelNsm:
    """The `NsmDevice` behind whatever takes its requests to it and brings the answers."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def describe(self) -> NsmDescription:
        """See `NsmDevice`."""
        return messages.read_description(self._exchange(messages.DESCRIBE))

    def describe_pcr(self, index: int) -> tuple[bool, bytes]:
        """See `NsmDevice`."""
        return messages.read_pcr(self._exchange(messages.describe_pcr(index)))

    def extend_pcr(self, index: int, data: bytes) -> bytes:
        """See `NsmDevice`."""
        return messages.read_extended(self._exchange(messages.extend_pcr(index, data)))

    def lock_pcr(self, index: int) -> None:
        """See `NsmDevice`."""
        messages.read_locked(self._exchange(messages.lock_pcr(index)))

    def lock_pcrs(self, count: int) -> None:
        """See `NsmDevice`."""
        messages.read_range_locked(self._exchange(messages.lock_pcrs(count)))

    def attest(self, *, public_key: bytes | None, user_data: bytes | None, nonce: bytes | None) -> bytes:
        """See `NsmDevice`."""
        request = messages.attest(public_key=public_key, user_data=user_data, nonce=nonce)
        return messages.read_document(self._exchange(request))

    def random(self, size: int) -> bytes:
        """See `NsmDevice`."""
        return gather(size, lambda _wanted: messages.read_random(self._exchange(messages.RANDOM)))


class IoctlExtension(Protocol):
    """The module that `extension.write_source` emits and the image builder compiles."""

    ffi: Any  # cffi makes both at run time
    lib: Any


class IoctlExchange:
    """An `Exchange` over an open device. The driver serves one caller at a time, for up to two minutes each."""

    def __init__(self, extension: IoctlExtension, path: Path = DEVICE) -> None:
        self._ffi, self._lib, self._path = extension.ffi, extension.lib, path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def __call__(self, request: bytes) -> bytes:
        """Send a request; raises InputTooLargeError, BufferTooSmallError or InternalError with the errno's name."""
        response = self._ffi.new("uint8_t[]", messages.MAX_RESPONSE_BYTES)
        length = self._ffi.new("size_t *", messages.MAX_RESPONSE_BYTES)
        failure = self._lib.nsm_exchange(self._descriptor, request, len(request), response, length)
        if failure == errno.EMSGSIZE:
            raise InputTooLargeError(f"request of {len(request)} bytes: EMSGSIZE")
        if failure != 0:
            raise InternalError(f"ioctl on {self._path}: {errno.errorcode.get(failure, failure)}")
        if length[0] >= messages.MAX_RESPONSE_BYTES:  # the driver cuts a longer answer off without a word
            raise BufferTooSmallError(f"an answer of {messages.MAX_RESPONSE_BYTES} bytes or more")
        return bytes(self._ffi.buffer(response, length[0]))

    def close(self) -> None:
        """Close the device; for tests, since the enclave keeps it until it ends."""
        os.close(self._descriptor)
