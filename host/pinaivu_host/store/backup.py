"""A backup: one portable SQLite file with all tables of one consistent snapshot, whatever kind of database it is of.

The file has the schema of the revision that the database had, and one table more, CONTENTS, by which a reader notices
what is missing or damaged. It proves nothing about who wrote it: what is believed of the log comes from its checkpoint.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    NullPool,
    String,
    Table,
    create_engine,
    event,
    insert,
    select,
)

from pinaivu_host.store.engine import explained, place_of
from pinaivu_host.store.revisions import VERSION_TABLE, known_revisions, migrate, revision_of
from pinaivu_shared.errors import CallerError

APPLICATION_ID: Final = 0x50495655
"""In the header of every backup, where SQLite has a place for it; `user_version` beside it is FORMAT."""
FORMAT: Final = 1
BATCH_ROWS: Final = 200

CONTENTS: Final = Table(
    "backup_contents",
    MetaData(),
    Column("table_name", String(64), primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),  # `RowDigest` over them, in the order of the file
)


class RowDigest:
    """SHA-256 over rows, each as MessagePack of its values."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.rows = 0

    def add(self, batch: Sequence[Sequence[Any]]) -> None:
        """Take in the next rows."""
        for row in batch:
            self._hash.update(msgspec.msgpack.encode(tuple(row)))
        self.rows += len(batch)

    def digest(self) -> bytes:
        """32 bytes."""
        return self._hash.digest()


def write_backup(source: Engine, path: Path) -> Mapping[str, int]:
    """Write everything to `path`, durably and at once, for its owner only; how many rows each table has.

    The database may be written meanwhile: the backup shows one moment of it.

    Raises:
        CallerError: there is a file already, or none can be made; no host has been at work in the database, or it is
            of a newer version.

    """
    if path.exists():
        raise CallerError(f"{path} is there already: a backup replaces no other")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        partial.touch(mode=0o600, exist_ok=False)
    except OSError as error:
        raise CallerError(f"{path} cannot be written: {error.strerror}") from error
    try:
        counts = _write(source, partial)
        _sync(partial)
        partial.rename(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)
    return counts


def file_engine(path: Path, *pragmas: str) -> Engine:
    """An engine for a file of its own, with one connection at a time."""
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool, hide_parameters=True)

    def prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    event.listen(engine, "connect", prepare)
    return engine


def stored_tables(connection: Connection) -> dict[str, Table]:
    """The tables as the database has them, in an order in which they can be filled, but for Alembic's own."""
    found = MetaData()
    found.reflect(connection)
    return {table.name: table for table in found.sorted_tables if table.name != VERSION_TABLE}


def _write(source: Engine, path: Path) -> Mapping[str, int]:
    target = file_engine(path, "journal_mode=OFF", "synchronous=OFF")  # a file that fails is thrown away
    with explained(source), _snapshot(source) as reading:
        migrate(target, _revision(source, reading))
        with explained(target), target.begin() as writing:
            writing.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
            writing.exec_driver_sql(f"PRAGMA user_version = {FORMAT}")
            tables = stored_tables(writing)
            CONTENTS.create(writing)
            return {name: _copy(reading, writing, table) for name, table in tables.items()}


def _revision(source: Engine, reading: Connection) -> str:
    found = revision_of(reading)
    if found is None:
        raise CallerError(f"the database {place_of(source)} is of no host: there is nothing to back up")
    if found not in known_revisions():
        raise CallerError(f"the database {place_of(source)} is of a newer version ({found[:40]}): back it up with that")
    return found


@contextlib.contextmanager
def _snapshot(source: Engine) -> Iterator[Connection]:
    """A transaction that sees one moment of the database, and holds up nobody who writes."""
    with source.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")
        else:
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield connection


def _copy(reading: Connection, writing: Connection, table: Table) -> int:
    digest = RowDigest()
    query = select(table).execution_options(yield_per=BATCH_ROWS)
    with reading.execute(query) as found:
        for batch in found.partitions():
            digest.add(batch)
            writing.execute(insert(table), [row._asdict() for row in batch])
    row = {"table_name": table.name, "rows": digest.rows, "sha256": digest.digest()}
    writing.execute(insert(CONTENTS).values(row))
    return digest.rows


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
