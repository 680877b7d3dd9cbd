"""What the builder says to people while it works: a bar for each long step, plain lines where there is no terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

QUIET_SECONDS: Final = 30
"""So long nothing is said of a running step where there is no terminal."""


class Step(Protocol):
    """A running step."""

    def advance(self, amount: int = 1) -> None:
        """So much more of the total is done."""
        ...


class Reporter(Protocol):
    """Where a build reports its steps."""

    @contextmanager
    def step(self, text: str, total: int) -> Iterator[Step]:
        """A step of `total` units, entered now and left when it is done."""
        ...

    def say(self, text: str) -> None:
        """One line for people."""
        ...


class _Bar:
    def __init__(self, progress: Progress, text: str, total: int) -> None:
        self._progress, self._task = progress, progress.add_task(text, total=max(total, 1))

    def advance(self, amount: int = 1) -> None:
        self._progress.advance(self._task, amount)


class _Lines:
    """How far a step is, said from time to time. A total may be an estimate: 100 % is for the end to say."""

    def __init__(self, text: str, total: int, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._text, self._total, self._say, self._clock = text, max(total, 1), say, clock
        self._done, self._said = 0, clock()

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        now = self._clock()
        if now - self._said >= QUIET_SECONDS:
            self._said = now
            self._say(f"{self._text}: {min(100 * self._done // self._total, 99)} %")


class TerminalReporter:
    """Bars on stderr; where that is no terminal, lines at the start, every half minute and at the end of each step."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = Console(stderr=True, highlight=False), clock

    @contextmanager
    def step(self, text: str, total: int) -> Iterator[Step]:
        """See `Reporter`."""
        started = self._clock()
        if self._console.is_terminal:
            columns = (TextColumn("{task.description:<42}"), BarColumn(), TimeElapsedColumn())
            with Progress(*columns, console=self._console) as progress:
                yield _Bar(progress, text, total)
            return
        self.say(f"{text} …")
        yield _Lines(text, total, self.say, self._clock)
        self.say(f"{text}: {self._clock() - started:.1f} s")

    def say(self, text: str) -> None:
        """See `Reporter`."""
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - people's output


class _Silent:
    def advance(self, amount: int = 1) -> None:
        """Nothing to draw on."""


class SilentReporter:
    """Says nothing; for tests and programs."""

    @contextmanager
    def step(self, text: str, total: int) -> Iterator[Step]:  # noqa: ARG002 - see Reporter
        """See `Reporter`."""
        yield _Silent()

    def say(self, text: str) -> None:
        """See `Reporter`."""
