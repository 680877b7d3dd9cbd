"""What the builder says to people while it works: a bar for each long step, plain lines where there is no terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


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


class TerminalReporter:
    """Bars on stderr; where that is no terminal, a line at the start and the end of each step."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)

    @contextmanager
    def step(self, text: str, total: int) -> Iterator[Step]:
        """See `Reporter`."""
        started = time.monotonic()
        if self._console.is_terminal:
            columns = (TextColumn("{task.description:<42}"), BarColumn(), TimeElapsedColumn())
            with Progress(*columns, console=self._console) as progress:
                yield _Bar(progress, text, total)
            return
        self.say(f"{text} …")
        yield _Silent()
        self.say(f"{text}: {time.monotonic() - started:.1f} s")

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
