"""Errors of building images. All are the caller's: something on his machine, in his lock or at his mirror.

CallerError
├── LockError            the lock is not one, or does not fit this checkout
├── MirrorError          no mirror is known, or it does not answer
│   └── MissingInputError    the mirror no longer has a locked input
├── InputError           what a mirror gave is not what the lock says, or cannot be unpacked
├── CheckoutError        git cannot say whether the checkout is that of its commit
└── BuildError           a step of the build failed, or the machine refused a file; the last output is in the text
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pinaivu_shared.errors import CallerError


class LockError(CallerError):
    """The lock cannot be used."""


class MirrorError(CallerError):
    """Inputs cannot be fetched."""


class MissingInputError(MirrorError):
    """A locked input has left the mirror. `name` and `version` say which."""

    def __init__(self, name: str, version: str) -> None:
        super().__init__(
            f"{name} {version} is not at the mirror any more: name an archive of old packages with --mirror, "
            "or lock today's versions with `pinaivu image lock` (another image, with other PCRs)"
        )
        self.name, self.version = name, version


class InputError(CallerError):
    """An input is not what the lock says."""


class CheckoutError(CallerError):
    """It is not known of which commit a checkout is."""


class BuildError(CallerError):
    """A build step failed. `step` names it."""

    def __init__(self, step: str, detail: str) -> None:
        super().__init__(f"{step}: {detail}")
        self.step = step


@contextmanager
def machine_faults(cache: Path) -> Iterator[None]:
    """Say what the machine refused (a full disk, a read-only cache) as a BuildError that names the file.

    A full disk does not say at which file it was full: nearly all that a build writes is in the cache.
    """
    try:
        yield
    except OSError as error:
        raise BuildError("this machine", f"{error.filename or cache}: {error.strerror or error}") from error
