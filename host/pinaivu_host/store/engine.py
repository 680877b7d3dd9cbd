"""Engines over either kind of database: SQLite in a file beside the host, PostgreSQL by URL.

What goes wrong while one is opened is the operator's to mend, so it is said in one line. A URL may hold a password, and
is in no text of ours.
"""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError

from pinaivu_host.store.schema import ACCOUNTS
from pinaivu_shared.errors import CallerError

BUSY_LIMIT_S: Final = 10
"""How long SQLite waits for another process that writes."""
CONNECT_LIMIT_S: Final = 10
STATEMENT_LIMIT_S: Final = 60
"""How long PostgreSQL may work at one statement, or wait for a lock, until it gives up. Migrations may take longer."""
FILE_NAME: Final = "host.sqlite"

_SQLITE: Final = frozenset({"sqlite", "sqlite+pysqlite"})
_LOST: Final = ("08", "57P", "53300")
"""SQLSTATE: broken connections, a server that stops or starts, one with too many connections."""
_POSTGRESQL: Final = frozenset({"postgresql", "postgresql+psycopg"})


def sqlite_url(data_folder: Path) -> str:
    """The URL of the embedded database in this folder, which opening makes if need be."""
    return f"sqlite:///{data_folder / FILE_NAME}"


def parse_url(url: str) -> URL:
    """CallerError for what is no URL of a database that a host can use."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise CallerError("--database-url: not a URL of SQLAlchemy's, such as postgresql+psycopg://…") from None
    if parsed.drivername not in _SQLITE | _POSTGRESQL:
        raise CallerError(
            f"--database-url: {parsed.drivername} is not supported; give postgresql+psycopg://… or sqlite:///…"
        )
    return parsed


def open_engine(url: str) -> Engine:
    """An engine; it has not connected yet. The file of an SQLite database is made, for its owner only."""
    parsed = parse_url(url)
    if parsed.drivername in _SQLITE:
        if parsed.database is not None:
            _make_private(Path(parsed.database))
        engine = create_engine(parsed, connect_args={"timeout": BUSY_LIMIT_S}, hide_parameters=True)
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    limits = {} if "connect_timeout" in parsed.query else {"connect_timeout": CONNECT_LIMIT_S}
    engine = create_engine(parsed, connect_args=limits, pool_pre_ping=True, hide_parameters=True)
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def is_there(url: str) -> bool:
    """Whether a host has been at work at this URL. Looking makes nothing."""
    parsed = parse_url(url)
    if parsed.drivername in _SQLITE:
        return parsed.database is not None and Path(parsed.database).is_file()
    engine = open_engine(url)
    try:
        with explained(engine):
            return inspect(engine).has_table(ACCOUNTS.name)
    finally:
        engine.dispose()


@contextlib.contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """Whatever the database itself has to complain about is a CallerError of one line, without any value of a row."""
    try:
        yield
    except DBAPIError as error:
        raise CallerError(f"the database {place_of(engine)}: {complaint(error)}") from error


def complaint(error: DBAPIError) -> str:
    """The first line of what the driver says; those after it may show rows."""
    return (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]


def is_lost(error: DBAPIError) -> bool:
    """Whether it is the server of the database that cannot be reached, or has gone; SQLite has none."""
    if error.connection_invalidated:
        return True
    code = getattr(error.orig, "sqlstate", "")
    if code is None:  # psycopg knows no code where there was no connection, nor where it was called wrongly
        return isinstance(error, OperationalError | InterfaceError)
    return str(code).startswith(_LOST)


def place_of(engine: Engine) -> str:
    """Which database it is, for people; without user, password and options."""
    url = engine.url
    if url.drivername in _SQLITE:
        return url.database or "in memory"
    socket = url.query.get("host", "")
    return f"{url.database or ''} of PostgreSQL at {url.host or socket or 'its default socket'}"


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


def _prepare_postgresql(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
    connection.adapters.register_dumper(str, _text_dumper())
    cursor = connection.cursor()
    cursor.execute(f"SET statement_timeout = '{STATEMENT_LIMIT_S}s'")
    cursor.execute("SET synchronous_commit = on")  # a commit is on disk before anybody hears of it
    cursor.close()
    connection.commit()


@functools.cache
def _text_dumper() -> Any:  # noqa: ANN401 - the driver's own type
    """PostgreSQL has no text with a NUL in it: to look for one finds nothing, as in SQLite, and to store one fails."""
    from psycopg.types.string import StrDumper  # noqa: PLC0415 - only where PostgreSQL is used

    class NulIsNothing(StrDumper):
        def dump(self, text: str) -> Any:  # noqa: ANN401 - a buffer of the driver's
            return None if "\0" in text else super().dump(text)

    return NulIsNothing
