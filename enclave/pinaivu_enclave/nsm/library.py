"""The Nitro Secure Module through libnsm.so, the C library of AWS's own SDK (nsm-api nsm-lib/src/lib.rs).

ABI mode of cffi: no compiler, but the declarations below must be those of the library. It answers any errno of the
driver but EMSGSIZE with InternalError, so the ioctl tells more.
"""

from pathlib import Path
from typing import Any, Final, cast

from cffi import FFI

from pinaivu_enclave.nsm import NSM_ERRORS, InternalError, InvalidResponseError, NsmDescription
from pinaivu_enclave.nsm.messages import as_pcr, as_u16
from pinaivu_enclave.nsm.random_bytes import gather
from pinaivu_shared.attestation.document import MAX_PCRS, PCR_BYTES

DOCUMENT_BYTES: Final = 16 * 1024  # the SDK's own buffer

_DIGESTS: Final = ("SHA256", "SHA384", "SHA512")
_FUNCTIONS: Final = (
    "nsm_lib_init",
    "nsm_lib_exit",
    "nsm_get_description",
    "nsm_describe_pcr",
    "nsm_extend_pcr",
    "nsm_lock_pcr",
    "nsm_lock_pcrs",
    "nsm_get_attestation_doc",
    "nsm_get_random",
)

ffi: Final = FFI()
ffi.cdef("""
typedef int ErrorCode;  /* C enums of int's size; as int, a value that is none of them is still a value */
typedef int Digest;
typedef struct {
    uint16_t version_major, version_minor, version_patch;
    uint8_t module_id[100];
    uint32_t module_id_len;
    uint16_t max_pcrs;
    uint16_t locked_pcrs[64];
    uint32_t locked_pcrs_len;
    Digest digest;
} NsmDescription;
int32_t nsm_lib_init(void);
void nsm_lib_exit(int32_t fd);
ErrorCode nsm_get_description(int32_t fd, NsmDescription *description);
ErrorCode nsm_describe_pcr(int32_t fd, uint16_t index, bool *lock, uint8_t *data, uint32_t *data_len);
ErrorCode nsm_extend_pcr(int32_t fd, uint16_t index, const uint8_t *data, uint32_t data_len,
                         uint8_t *pcr_data, uint32_t *pcr_data_len);
ErrorCode nsm_lock_pcr(int32_t fd, uint16_t index);
ErrorCode nsm_lock_pcrs(int32_t fd, uint16_t range);
ErrorCode nsm_get_attestation_doc(int32_t fd, const uint8_t *user_data, uint32_t user_data_len,
                                  const uint8_t *nonce, uint32_t nonce_len,
                                  const uint8_t *pub_key, uint32_t pub_key_len,
                                  uint8_t *doc, uint32_t *doc_len);
ErrorCode nsm_get_random(int32_t fd, uint8_t *buf, uintptr_t *buf_len);
""")


class LibraryNsm:
    """The `NsmDevice` behind one open libnsm.so.

    Raises OSError if `path` cannot be loaded, AttributeError if it lacks a function, InternalError if it cannot open
    the device.
    """

    def __init__(self, path: Path) -> None:
        self._library = cast("Any", ffi.dlopen(str(path)))  # its functions are those declared above
        for function in _FUNCTIONS:
            getattr(self._library, function)
        self._descriptor = self._library.nsm_lib_init()
        if self._descriptor < 0:
            raise InternalError("nsm_lib_init: libnsm.so cannot open /dev/nsm")

    def describe(self) -> NsmDescription:
        """See `NsmDevice`."""
        got = cast("Any", ffi.new("NsmDescription *"))
        _require_success(self._library.nsm_get_description(self._descriptor, got))
        if not (0 < got.module_id_len < len(got.module_id) and got.locked_pcrs_len <= MAX_PCRS):
            raise InvalidResponseError("nsm_get_description: lengths beyond their fields")
        if not 0 <= got.digest < len(_DIGESTS):
            raise InvalidResponseError(f"nsm_get_description: digest {got.digest}")
        locked_pcrs = frozenset(got.locked_pcrs[0 : got.locked_pcrs_len])
        if locked_pcrs and max(locked_pcrs) >= MAX_PCRS:
            raise InvalidResponseError("nsm_get_description: locked_pcrs names what is no register")
        return NsmDescription(
            version=(got.version_major, got.version_minor, got.version_patch),
            module_id=_text(bytes(ffi.buffer(got.module_id, got.module_id_len))),
            max_pcrs=got.max_pcrs,
            locked_pcrs=locked_pcrs,
            digest=_DIGESTS[got.digest],
        )

    def describe_pcr(self, index: int) -> tuple[bool, bytes]:
        """See `NsmDevice`."""
        locked, value = ffi.new("bool *"), _Output(PCR_BYTES)
        _require_success(
            self._library.nsm_describe_pcr(self._descriptor, as_u16(index), locked, value.start, value.length)
        )
        return locked[0], value.pcr()

    def extend_pcr(self, index: int, data: bytes) -> bytes:
        """See `NsmDevice`."""
        value = _Output(PCR_BYTES)
        given = ffi.from_buffer("uint8_t[]", data)
        _require_success(
            self._library.nsm_extend_pcr(self._descriptor, as_u16(index), given, len(data), value.start, value.length)
        )
        return value.pcr()

    def lock_pcr(self, index: int) -> None:
        """See `NsmDevice`."""
        _require_success(self._library.nsm_lock_pcr(self._descriptor, as_u16(index)))

    def lock_pcrs(self, count: int) -> None:
        """See `NsmDevice`."""
        _require_success(self._library.nsm_lock_pcrs(self._descriptor, as_u16(count)))

    def attest(self, *, public_key: bytes | None, user_data: bytes | None, nonce: bytes | None) -> bytes:
        """See `NsmDevice`."""
        document = _Output(DOCUMENT_BYTES)
        given = [_optional(field) for field in (user_data, nonce, public_key)]
        flat = [argument for pair in given for argument in pair]
        _require_success(
            self._library.nsm_get_attestation_doc(self._descriptor, *flat, document.start, document.length)
        )
        return document.content()

    def random(self, size: int) -> bytes:
        """See `NsmDevice`."""
        return gather(size, self._draw)

    def _draw(self, wanted: int) -> bytes:
        drawn = _Output(wanted, length_type="uintptr_t")
        _require_success(self._library.nsm_get_random(self._descriptor, drawn.start, drawn.length))
        return drawn.content()

    def close(self) -> None:
        """Close the device; for tests, since the enclave keeps it until it ends."""
        self._library.nsm_lib_exit(self._descriptor)


class _Output:
    """A buffer that the library fills: `length` is its capacity before the call, and how much was written after."""

    def __init__(self, capacity: int, *, length_type: str = "uint32_t") -> None:
        self._capacity = capacity
        self.start = ffi.new("uint8_t[]", capacity)
        self.length = ffi.new(f"{length_type} *", capacity)

    def content(self) -> bytes:
        """What was written: at least one byte, and no more than there is room for."""
        if not 0 < self.length[0] <= self._capacity:
            raise InvalidResponseError(f"libnsm.so wrote {self.length[0]} bytes where {self._capacity} fit")
        return bytes(ffi.buffer(self.start, self.length[0]))

    def pcr(self) -> bytes:
        """What was written, which must be a whole register."""
        return as_pcr(self.content())


def _optional(field: bytes | None) -> tuple[FFI.CData, int]:
    """Pointer and length. Empty is not absent: only NULL is."""
    return (ffi.NULL, 0) if field is None else (ffi.from_buffer("uint8_t[]", field), len(field))


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidResponseError("nsm_get_description: module_id is not UTF-8") from error


def _require_success(code: int) -> None:
    """Code 0 is success, 1 to 8 are the errors in the order of the C enum."""
    if code == 0:
        return
    errors = tuple(NSM_ERRORS.values())
    if not 1 <= code <= len(errors):
        raise InvalidResponseError(f"libnsm.so answered the unknown error code {code}")
    raise errors[code - 1]("the module refused")
