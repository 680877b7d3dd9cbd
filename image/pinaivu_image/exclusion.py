"""One build at a time in each part of the cache: advisory locks (flock(2)), which end with the last process."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pinaivu_image.progress import Reporter


@contextmanager
def alone(path: Path, reporter: Reporter) -> Iterator[int]:
    """Hold the lock file `path`, waiting for whoever has it. Gives its descriptor.

    A child that inherits the descriptor holds the lock too: the compiler of a build that was killed keeps others out
    until it has ended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reporter.say(f"waiting for another build, which has {path}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()
