"""Writes the C source of the one system call that Python's standard library cannot do safely: the NSM's ioctl.

Used by the image builder and by tests; the enclave imports only what they compile from it (`MODULE`):

    gcc -shared -fPIC -O2 -I<Python's include folder> -o _nsm_ioctl.abi3.so _nsm_ioctl.c

The extension uses Python's stable ABI (PEP 384), and the same cffi gives the same bytes of C. This file imports nothing
of ours, since the image builder runs it alone; hence `MODULE` and `opening.EXTENSION` say the same twice.
"""

from pathlib import Path
from typing import Final

from cffi import FFI

MODULE: Final = "pinaivu_enclave.nsm._nsm_ioctl"
FILE_NAME: Final = "_nsm_ioctl.abi3.so"  # beside this file, as the import system looks for it

_DECLARATION: Final = """
int nsm_exchange(int fd, const uint8_t *request, size_t request_length, uint8_t *response, size_t *response_length);
"""

_SOURCE: Final = """
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

/* struct nsm_raw of linux/nsm.h: two struct nsm_iovec */
struct nsm_raw {
    uint64_t request_address, request_length;
    uint64_t response_address, response_length;
};

#define NSM_IOCTL_RAW _IOWR(0x0A, 0x0, struct nsm_raw)
_Static_assert(NSM_IOCTL_RAW == 0xC0200A00, "the number of the ioctl is that of linux/nsm.h");

/* Sends a request and takes the answer. *response_length is the capacity, and becomes the answer's length.
   Returns 0 or an errno. The driver waits without interruption once it has sent, so EINTR means nothing was done. */
static int nsm_exchange(int fd, const uint8_t *request, size_t request_length,
                        uint8_t *response, size_t *response_length)
{
    struct nsm_raw raw;
    int result;

    do {
        raw.request_address = (uint64_t)(uintptr_t)request;
        raw.request_length = request_length;
        raw.response_address = (uint64_t)(uintptr_t)response;
        raw.response_length = *response_length;
        result = ioctl(fd, NSM_IOCTL_RAW, &raw);
    } while (result < 0 && errno == EINTR);
    if (result < 0)
        return errno;
    *response_length = (size_t)raw.response_length;
    return 0;
}
"""


def write_source(path: Path) -> None:
    """Write the extension's C source there; the same bytes every time."""
    builder = FFI()
    builder.cdef(_DECLARATION)
    builder.set_source(MODULE, _SOURCE, py_limited_api=True)
    builder.emit_c_code(str(path))
