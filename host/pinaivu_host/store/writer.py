"""Transactions of one thread, one after the other."""

import contextlib
from collections.abc import Iterator

from sqlalchemy import Connection, Engine


class Writer:
    """Keeps SQLite's connection, since taking it from the pool and giving it back is a tenth of a commit's work.

    A server's is taken anew each time: it may have been cut meanwhile, which the pool notices.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: Connection | None = None

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block and rolled back by whatever is raised there."""
        if self._engine.dialect.name != "sqlite":
            with self._engine.begin() as connection:
                yield connection
            return
        if self._kept is None:
            self._kept = self._engine.connect()
        with self._kept.begin():
            yield self._kept

    def close(self) -> None:
        """Give the connection back."""
        if self._kept is not None:
            self._kept.close()
