"""The schema that migrations make is the one that the code names; keys are stored as digests only, a vault once."""

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from pinaivu_host.errors import VaultConflictError
from pinaivu_host.store.accounts import Accounts, new_account_id
from pinaivu_host.store.api_keys import digest_of_key
from pinaivu_host.store.database import Database
from pinaivu_host.store.engine import sqlite_url
from pinaivu_host.store.schema import METADATA
from pinaivu_host.store.vault import SealedVault
from pinaivu_shared.ids import digest_of


def test_migrations_make_the_schema_and_run_again_without_effect(tmp_path: Path) -> None:
    for _ in range(2):
        database = Database(sqlite_url(tmp_path))
        with database.engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        database.close()


def test_the_schema_can_be_made_in_postgresql() -> None:
    for table in METADATA.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]  # SQLAlchemy's


@pytest.mark.anyio
async def test_a_key_is_known_by_its_digest_and_never_stored(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path))
    accounts = Accounts(database)
    account_id = new_account_id()
    key = await accounts.create(name="ann", account_id=account_id)
    caller = await accounts.holder(digest_of_key(key))
    assert caller is not None
    assert (caller.account_id, caller.credit, caller.disabled) == (account_id, 0, False)
    assert await accounts.holder(digest_of_key(key[:-1] + ("a" if key[-1] != "a" else "b"))) is None
    database.close()
    with sqlite3.connect(tmp_path / "host.sqlite") as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()
    assert key not in dump
    assert key[:12] in dump


@pytest.mark.anyio
async def test_a_sealed_vault_is_stored_once_for_each_log_and_never_overwritten(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path))
    vault, other = SealedVault(database, origin="a"), SealedVault(database, origin="b")
    assert await vault.load() == b""
    await vault.keep(b"first")
    await vault.keep(b"first")
    with pytest.raises(VaultConflictError) as caught:
        await vault.keep(b"second")
    assert (caught.value.origin, caught.value.stored, caught.value.given) == (
        "a",
        digest_of(b"first"),
        digest_of(b"second"),
    )
    assert await other.load() == b""
    await other.keep(b"second")
    database.close()
    reopened = Database(sqlite_url(tmp_path))
    assert await SealedVault(reopened, origin="a").load() == b"first"
    assert await SealedVault(reopened, origin="b").load() == b"second"
    reopened.close()
