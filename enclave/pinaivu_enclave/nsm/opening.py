"""Opens the enclave's own Nitro Secure Module: through libnsm.so where it is installed, else through the ioctl.

Only what is in the image decides, not the environment: the paths below are absolute, and a library that is there but
does not work is an error, never a reason to try the other way.
"""

import errno
import importlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

from pinaivu_enclave.nsm import InternalError, NsmDevice
from pinaivu_enclave.nsm.device import DEVICE, IoctlExchange, IoctlExtension, KernelNsm

LIBRARIES: Final = (
    Path("/usr/lib64/libnsm.so"),
    Path("/usr/lib/libnsm.so"),
    Path("/usr/lib/x86_64-linux-gnu/libnsm.so"),
    Path("/usr/lib/aarch64-linux-gnu/libnsm.so"),
    Path("/usr/local/lib/libnsm.so"),
)
"""Where libnsm.so may be; the first that exists is used."""

EXTENSION: Final = "pinaivu_enclave.nsm._nsm_ioctl"

logger = logging.getLogger(__name__)


class NsmMissingError(Exception):
    """There is no module to talk to. The text says what is missing; an enclave cannot go on without."""


def open_nsm(*, libraries: Sequence[Path] = LIBRARIES, extension: str = EXTENSION, device: Path = DEVICE) -> NsmDevice:
    """The module of this enclave, open until it ends; the log says which way is taken. Raises NsmMissingError."""
    for library in libraries:
        if os.path.lexists(library):
            nsm = _through_library(library)
            logger.info("nsm opened", extra={"kv": {"through": str(library)}})
            return nsm
    nsm = _through_ioctl(extension, device)
    logger.info("nsm opened", extra={"kv": {"through": f"ioctl on {device}"}})
    return nsm


def _through_library(path: Path) -> NsmDevice:
    from pinaivu_enclave.nsm.library import LibraryNsm  # noqa: PLC0415  # loads a C parser that only this way needs

    try:
        return LibraryNsm(path)
    except (OSError, AttributeError, InternalError) as error:
        raise NsmMissingError(f"{path} is there but does not work: {error}") from error


def _through_ioctl(extension: str, device: Path) -> NsmDevice:
    try:
        compiled = cast("IoctlExtension", importlib.import_module(extension))
    except ImportError as error:
        raise NsmMissingError(
            f"no libnsm.so in its usual places, and the extension {extension} that the image builder compiles "
            f"cannot be imported: {error}"
        ) from error
    try:
        return KernelNsm(IoctlExchange(compiled, device))
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "unknown error")
        raise NsmMissingError(
            f"{device} cannot be opened ({name}): this is no Nitro Enclave, /dev is not mounted yet, "
            "or the kernel lacks CONFIG_NSM"
        ) from error
