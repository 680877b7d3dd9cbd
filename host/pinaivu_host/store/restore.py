"""A backup put back into an empty database of either kind, in one transaction: whole and checked, or not at all."""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, NullPool, Table, create_engine, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError

from pinaivu_host.store.backup import APPLICATION_ID, BATCH_ROWS, CONTENTS, FORMAT, RowDigest, stored_tables
from pinaivu_host.store.engine import complaint, explained, place_of
from pinaivu_host.store.limits_schema import METADATA as COUNTERS
from pinaivu_host.store.log_check import CheckedLog, check_log
from pinaivu_host.store.revisions import known_revisions, revision_of, take_turn, upgrade
from pinaivu_shared.errors import CallerError, VerificationError

_IN_ORDER: Final = text("rowid")


@dataclass(frozen=True, slots=True)
class Restored:
    """How many rows each table of the backup had, and what the log in it came to."""

    rows: Mapping[str, int]
    log: CheckedLog


def restore_backup(path: Path, target: Engine) -> Restored:
    """Fill an empty database from the backup at `path`, bring it to the newest revision and check its log.

    Raises:
        CallerError: the database is not empty, or the file is no backup, of a newer version, damaged, or its log is not
            what its checkpoint says. The database is then as empty as before.

    """
    with explained(target), target.begin() as writing:
        take_turn(writing)
        _check_empty(target, writing)
        with _opened(path) as reading:
            upgrade(writing, _revision(path, reading))
            rows = _copy_all(path, reading, writing)
        upgrade(writing)
        try:
            log = check_log(writing)
        except VerificationError as error:
            raise CallerError(f"{path}: {error}; nothing was restored") from error
    return Restored(rows, log)


def _check_empty(target: Engine, connection: Connection) -> None:
    if names := sorted(inspect(connection).get_table_names()):
        raise CallerError(
            f"the database {place_of(target)} is not empty, and a backup is restored into an empty one only; there are "
            f"the tables {', '.join(names)}"
        )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Connection]:
    """Read only: looking at a file changes nothing beside it either."""
    if not path.is_file():
        raise CallerError(f"there is no file {path}")
    try:
        path.open("rb").close()  # SQLite does not say why it cannot open a file
    except OSError as error:
        raise CallerError(f"{path} cannot be read: {error.strerror}") from error
    address = f"{path.absolute().as_uri()}?mode=ro"
    engine = create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(address, uri=True), poolclass=NullPool, hide_parameters=True
    )
    try:
        with engine.connect() as connection:
            _check_file(path, connection)
            yield connection
    finally:
        engine.dispose()


def _check_file(path: Path, connection: Connection) -> None:
    try:
        identity = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("application_id", "user_version")
        ]
        if identity[0] != APPLICATION_ID:
            raise CallerError(f"{path} is no backup of a host: `pinaivu host backup` writes one")
        if identity[1] != FORMAT:
            raise CallerError(f"{path} is a backup of format {identity[1]}, this version reads format {FORMAT}")
        faults = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
    except DBAPIError as error:
        raise CallerError(f"{path} is no backup of a host, or not a whole one: {complaint(error)}") from error
    if faults != "ok":
        raise CallerError(f"{path} is damaged: {str(faults).splitlines()[0]}")


def _revision(path: Path, reading: Connection) -> str:
    found = revision_of(reading)
    if found not in known_revisions():
        raise CallerError(f"{path} is of a newer version ({str(found)[:40]}): restore it with that one, or a later one")
    assert found is not None, "no revision is among the known ones"
    return found


def _copy_all(path: Path, reading: Connection, writing: Connection) -> dict[str, int]:
    given, wanted = stored_tables(reading), stored_tables(writing)
    for counters in COUNTERS.tables.keys() & wanted.keys():  # which are in no backup
        del wanted[counters]
    if given.pop(CONTENTS.name, None) is None or _columns(given) != _columns(wanted):
        raise CallerError(f"{path} has other tables than a backup of its revision")
    contents: dict[str, Any] = {row.table_name: row for row in reading.execute(select(CONTENTS))}
    if contents.keys() != given.keys():
        raise CallerError(f"{path} does not say what is in it")
    for name, table in wanted.items():
        digest = _copy(path, (reading, given[name]), (writing, table))
        if (digest.rows, digest.digest()) != (contents[name].rows, contents[name].sha256):
            raise CallerError(f"{path} is damaged: the table {name} is not what was written")
    return {name: contents[name].rows for name in wanted}


def _columns(tables: Mapping[str, Table]) -> dict[str, list[str]]:
    return {name: list(table.columns.keys()) for name, table in tables.items()}


def _copy(path: Path, source: tuple[Connection, Table], target: tuple[Connection, Table]) -> RowDigest:
    digest = RowDigest()
    query = select(source[1]).order_by(_IN_ORDER).execution_options(yield_per=BATCH_ROWS)
    for batch in source[0].execute(query).partitions():
        digest.add(batch)
        try:
            target[0].execute(insert(target[1]), [row._asdict() for row in batch])
        except DBAPIError as error:
            raise CallerError(f"{path}: the table {target[1].name} does not fit: {complaint(error)}") from error
    return digest
