"""The SQL database: SQLite beside the host by default, PostgreSQL by URL. Point look-ups run in a few threads.

The journal has a connection of its own (store.journal); everything here is short.
"""

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, Insert, Table, create_engine, event, inspect, make_url
from sqlalchemy.dialects import postgresql, sqlite

from pinaivu_host.store.schema import ACCOUNTS

_Found = TypeVar("_Found")
READ_THREADS: Final = 2
BUSY_LIMIT_S: Final = 10
FILE_NAME: Final = "host.sqlite"


class Database:
    """One engine, migrated to the newest schema when opened."""

    def __init__(self, url: str) -> None:
        self.engine: Final = _open_engine(url)
        migrate(self.engine)
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


def sqlite_url(data_folder: Path) -> str:
    """The URL of the embedded database in this folder, which opening makes if need be."""
    return f"sqlite:///{data_folder / FILE_NAME}"


def is_there(url: str) -> bool:
    """Whether a host has been at work at this URL. Looking makes nothing."""
    if (parsed := make_url(url)).get_backend_name() == "sqlite":
        return parsed.database is not None and Path(parsed.database).is_file()
    engine = _open_engine(url)
    try:
        return inspect(engine).has_table(ACCOUNTS.name)
    finally:
        engine.dispose()


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


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to this version, the newest by default, in one transaction."""
    from alembic import command  # noqa: PLC0415 - a heavy import, needed once
    from alembic.config import Config  # noqa: PLC0415

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    configuration.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, revision)


def _open_engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    if (name := make_url(url).database) is not None:
        _make_private(Path(name))
    engine = create_engine(url, connect_args={"timeout": BUSY_LIMIT_S}, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _make_private(path: Path) -> None:
    """Folder and file for their owner only, unless they are there; SQLite gives the files beside it the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # a commit is on disk before anybody hears of it
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
