"""The SQL database: SQLite beside the host by default, PostgreSQL by URL. Point look-ups run in a few threads.

The journal has a connection of its own (store.journal); everything here is short.
"""

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, Insert, Table, text
from sqlalchemy.dialects import postgresql, sqlite

from pinaivu_host.store.engine import explained, open_engine, place_of
from pinaivu_host.store.revisions import migrate
from pinaivu_shared.errors import CallerError

_Found = TypeVar("_Found")
READ_THREADS: Final = 2


class Database:
    """One engine, migrated to the newest schema when opened."""

    def __init__(self, url: str) -> None:
        self.engine: Final = open_engine(url)
        try:
            with explained(self.engine):
                _check_encoding(self.engine)
                migrate(self.engine)
        except BaseException:
            self.engine.dispose()
            raise
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="database")

    async def read(self, query: Callable[[Connection], _Found]) -> _Found:
        """Run a short query in a thread of the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, query)

    async def write(self, change: Callable[[Connection], _Found]) -> _Found:
        """Run a short transaction in a thread of the pool; it commits, or changes nothing."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._write, change)

    def close(self) -> None:
        """Wait for what runs, then close every connection."""
        self._threads.shutdown()
        self.engine.dispose()

    def _read(self, query: Callable[[Connection], _Found]) -> _Found:
        with self.engine.connect() as connection:
            return query(connection)

    def _write(self, change: Callable[[Connection], _Found]) -> _Found:
        with self.engine.begin() as connection:
            return change(connection)


def _check_encoding(engine: Engine) -> None:
    """What callers name things is Unicode."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            encoding = connection.execute(text("SHOW server_encoding")).scalar()
        if encoding != "UTF8":
            raise CallerError(f"the database {place_of(engine)} is in {encoding}; a host needs one in UTF8")


def insert_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows whose primary key is not there yet."""
    connection.execute(_insert_missing(connection.dialect.name, table), rows)


@functools.cache
def _insert_missing(dialect: str, table: Table) -> Insert:
    """Made once: the journal executes it for every commit."""
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def insert_or_change(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    changed: tuple[str, ...],
    only_if_equal: str | None = None,
) -> None:
    """Insert the rows; of those whose primary key is there, change these columns (where that one column is equal)."""
    connection.execute(_insert_or_change(connection.dialect.name, table, changed, only_if_equal), rows)


@functools.cache
def _insert_or_change(dialect: str, table: Table, changed: tuple[str, ...], only_if_equal: str | None) -> Insert:
    statement = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    given = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={name: given[name] for name in changed},
        where=None if only_if_equal is None else table.c[only_if_equal] == given[only_if_equal],
    )
