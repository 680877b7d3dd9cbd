"""Databases of earlier versions: every row stays, nothing is made up, and the schema ends as the code names it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger, Column, Engine, LargeBinary, MetaData, Table, insert, select, text

from pinaivu_host.store.database import Database
from pinaivu_host.store.engine import open_engine
from pinaivu_host.store.limits_schema import METADATA as COUNTERS
from pinaivu_host.store.revisions import VERSION_TABLE, known_revisions, migrate, revision_of
from pinaivu_host.store.schema import API_KEYS, METADATA, RECEIPTS
from pinaivu_shared.errors import CallerError

pytestmark = pytest.mark.every_database


def value_of(column: Column[Any]) -> object:
    """Something that the column takes, the same for all that name the same account."""
    if isinstance(column.type, BigInteger):
        return 7
    return b"x" * 32 if isinstance(column.type, LargeBinary) else "text"


def stored_tables(engine: Engine) -> list[Table]:
    found = MetaData()
    found.reflect(engine)
    return [table for table in found.sorted_tables if table.name != VERSION_TABLE]


def fill(engine: Engine) -> dict[str, dict[str, Any]]:
    """One row in every table, in every column; what they are."""
    rows = {table.name: {column.name: value_of(column) for column in table.columns} for table in stored_tables(engine)}
    with engine.begin() as connection:
        for table in stored_tables(engine):
            connection.execute(insert(table).values(rows[table.name]))
    return rows


def check_schema(engine: Engine) -> None:
    with engine.connect() as connection:
        named = [METADATA, COUNTERS] if engine.dialect.name == "postgresql" else METADATA  # SQLite has those elsewhere
        assert compare_metadata(MigrationContext.configure(connection), named) == []  # type: ignore[arg-type]  # or many
        assert revision_of(connection) == known_revisions()[-1]


@pytest.mark.parametrize("revision", known_revisions())
def test_a_database_of_any_revision_keeps_its_rows_and_becomes_one_of_this_version(
    database_url: str, revision: str
) -> None:
    engine = open_engine(database_url)
    migrate(engine, revision)
    before = fill(engine)
    engine.dispose()
    database = Database(database_url)
    check_schema(database.engine)
    with database.engine.connect() as connection:
        for name in before.keys() & METADATA.tables.keys():
            row = before[name]
            columns = [column for column in METADATA.tables[name].columns if column.name in row]
            kept = connection.execute(select(*columns)).one()._asdict()
            assert kept == {column.name: row[column.name] for column in columns}
    database.close()


def test_what_the_first_version_did_not_keep_is_not_made_up(database_url: str) -> None:
    engine = open_engine(database_url)
    migrate(engine, known_revisions()[0])
    fill(engine)
    migrate(engine)
    with engine.connect() as connection:
        key = connection.execute(select(API_KEYS)).one()
        assert (key.permission, key.models, key.expires_ms, key.last_used_ms) == ("full", "[]", None, None)
        assert connection.execute(select(RECEIPTS.c.payment_micro_usdc)).scalar() is None
    engine.dispose()


def test_hosts_that_start_at_once_on_an_empty_database_make_one_schema(database_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        for database in threads.map(Database, [database_url] * 4):
            check_schema(database.engine)
            database.close()


def test_a_migration_that_fails_changes_nothing(database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE suspensions (leaf_index INTEGER)"))  # in the way of revision 0004
    with pytest.raises(CallerError, match=r"suspensions.* already exists"):
        Database(database_url)
    assert [table.name for table in stored_tables(engine)] == ["suspensions"]
    engine.dispose()


def test_a_database_of_a_newer_version_is_left_alone(database_url: str) -> None:
    engine = open_engine(database_url)
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))  # noqa: S608 - ours
    with pytest.raises(CallerError, match="revision 9999, which this version does not know"):
        Database(database_url)
    engine.dispose()
