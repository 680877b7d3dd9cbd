"""A backup shows one moment of a database in use. Restored, in either kind, it is all there, or nothing is."""

import asyncio
import errno
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, inspect, select
from tests.enclave.market import ACCOUNT, Market, Node
from tests.host.postgres import PostgresServer

from pinaivu_host.cli import host
from pinaivu_host.store import backup as backups
from pinaivu_host.store.accounts import Accounts
from pinaivu_host.store.backup import RowDigest, write_backup
from pinaivu_host.store.database import Database
from pinaivu_host.store.engine import open_engine, sqlite_url
from pinaivu_host.store.journal import Journal
from pinaivu_host.store.leaf_rows import JobRecord
from pinaivu_host.store.log_check import CheckedLog, check_log
from pinaivu_host.store.restore import restore_backup
from pinaivu_host.store.revisions import known_revisions, migrate
from pinaivu_host.store.schema import ACCOUNTS, API_KEYS, CHECKPOINTS, LEAVES, METADATA, TREE_NODES
from pinaivu_shared.errors import CallerError, VerificationError


@pytest.fixture
def source(database_url: str) -> Iterator[Engine]:
    """The database of a host that has served a few jobs."""
    database = Database(database_url)
    asyncio.run(serve(database))
    yield database.engine
    database.close()


async def serve(database: Database) -> None:
    journal = Journal(database)
    await journal.start()
    await Accounts(database).create(name="Ann — Änn", account_id=ACCOUNT)
    market = Market()
    node = Node(market, "a").register().quote()
    for _ in range(5):
        awarded = market.open_job()
        journal.records[awarded.request_id] = JobRecord(b"s" * 32, [awarded.transcript])
        market.settle(awarded, node)
        node.quote()
    for index, leaf in enumerate(market.leaves):
        journal.append(index, leaf)
    journal.keep_checkpoint(int(market.checkpoint.split("\n")[1]), market.checkpoint)
    await journal.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database of another host."""
    if request.param == "sqlite":
        engine = open_engine(sqlite_url(tmp_path / "other"))
        yield engine
        engine.dispose()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as url:
        engine = open_engine(url)
        yield engine
        engine.dispose()


def contents(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as connection:
        tables = METADATA.sorted_tables
        return {table.name: sorted(map(tuple, connection.execute(select(table))), key=repr) for table in tables}


@pytest.mark.every_database
def test_what_was_backed_up_is_restored_into_either_kind(source: Engine, empty: Engine, tmp_path: Path) -> None:
    written = write_backup(source, tmp_path / "backup")
    restored = restore_backup(tmp_path / "backup", empty)
    before = contents(source)
    assert contents(empty) == before
    assert dict(restored.rows) == dict(written) == {name: len(rows) for name, rows in before.items()}
    size = len(before["leaves"])
    assert restored.log == CheckedLog(size, before["checkpoints"][0][0])
    assert size > 5 <= len(before["receipts"])


@pytest.mark.every_database
def test_a_backup_is_one_file_for_its_owner_only_and_replaces_none(source: Engine, tmp_path: Path) -> None:
    place = tmp_path / "backups" / "one"
    place.parent.mkdir()
    write_backup(source, place)
    assert [path.name for path in place.parent.iterdir()] == ["one"]
    assert place.stat().st_mode & 0o777 == 0o600
    with pytest.raises(CallerError, match="one is there already"):
        write_backup(source, place)


@pytest.mark.every_database
def test_what_is_written_during_a_backup_is_in_it_as_a_whole_or_not_at_all(
    source: Engine, empty: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer commits between any two tables that are copied: an account, and a key of it."""
    before = contents(source)
    copy = backups._copy
    numbers = iter(range(1000))

    def write_then_copy(*arguments: Any) -> int:
        number = next(numbers)
        with source.begin() as connection:
            account = {"id": f"acct_{number}", "name": "", "credit_micro_usdc": 0, "spent_micro_usdc": 0}
            connection.execute(insert(ACCOUNTS).values(account | {"created_ms": 1}))
            key = {"key_sha256": bytes([number]) * 32, "account_id": f"acct_{number}", "label": "", "prefix": ""}
            connection.execute(insert(API_KEYS).values(key | {"created_ms": 1}))
        return copy(*arguments)

    monkeypatch.setattr(backups, "_copy", write_then_copy)
    write_backup(source, tmp_path / "backup")
    assert len(contents(source)["accounts"]) == len(before["accounts"]) + next(numbers)
    restore_backup(tmp_path / "backup", empty)
    assert contents(empty) == before


@pytest.mark.every_database
def test_only_a_batch_of_rows_is_held_at_once(
    source: Engine, empty: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinaivu_host.store.backup.BATCH_ROWS", 3)
    monkeypatch.setattr("pinaivu_host.store.restore.BATCH_ROWS", 3)
    sizes = []
    add = RowDigest.add

    def seen(self: RowDigest, batch: Any) -> None:
        sizes.append(len(batch))
        add(self, batch)

    monkeypatch.setattr(RowDigest, "add", seen)
    write_backup(source, tmp_path / "backup")
    restore_backup(tmp_path / "backup", empty)
    assert max(sizes) == 3
    assert contents(empty) == contents(source)


@pytest.mark.every_database
def test_a_backup_of_an_older_revision_is_migrated(database_url: str, empty: Engine, tmp_path: Path) -> None:
    engine = open_engine(database_url)
    migrate(engine, known_revisions()[0])
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO models (model, first_quoted_ms) VALUES ('m', 7)")
    rows = write_backup(engine, tmp_path / "backup")
    engine.dispose()
    assert "orders" not in rows
    restore_backup(tmp_path / "backup", empty)
    assert contents(empty)["models"] == [("m", 7)]
    assert contents(empty)["orders"] == []


@pytest.mark.every_database
def test_a_database_that_is_not_empty_is_left_alone(source: Engine, tmp_path: Path) -> None:
    write_backup(source, tmp_path / "backup")
    before = contents(source)
    with pytest.raises(CallerError, match=r"is not empty.* there are the tables accounts, alembic_version, "):
        restore_backup(tmp_path / "backup", source)
    assert contents(source) == before


@pytest.mark.every_database
def test_a_database_of_no_host_gives_no_backup(database_url: str, tmp_path: Path) -> None:
    engine = open_engine(database_url)
    with pytest.raises(CallerError, match="is of no host"):
        write_backup(engine, tmp_path / "backup")
    engine.dispose()
    assert not (tmp_path / "backup").exists()


def truncate(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def flip(path: Path) -> None:
    change(path, "UPDATE accounts SET credit_micro_usdc = credit_micro_usdc + 1")


def cut_table(path: Path) -> None:
    change(path, "DELETE FROM transcripts WHERE rowid = 1")


def drop_table(path: Path) -> None:
    change(path, "DROP TABLE receipts", "DELETE FROM backup_contents WHERE table_name = 'receipts'")


def put_foreign(path: Path) -> None:
    path.unlink()
    change(path, "CREATE TABLE songs (name TEXT)")


def put_text(path: Path) -> None:
    path.write_text("-- PostgreSQL database dump\n" * 100)


def make_newer(path: Path) -> None:
    change(path, "UPDATE alembic_version SET version_num = '9999'")


def make_other_format(path: Path) -> None:
    change(path, "PRAGMA user_version = 2")


def forge_leaf(path: Path) -> None:
    """By somebody who knows what a backup looks like, and not the key of the log."""
    change(path, "UPDATE leaves SET leaf = X'00' WHERE leaf_index = 1")
    sign_again(path, "leaves")


def cut_log(path: Path) -> None:
    change(path, "DELETE FROM leaves WHERE leaf_index >= (SELECT max(size) FROM checkpoints) - 1")
    sign_again(path, "leaves")


def sign_again(path: Path, name: str) -> None:
    digest = RowDigest()
    with closing(sqlite3.connect(path)) as database, database:
        digest.add(database.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall())  # noqa: S608 - ours
        row = (digest.rows, digest.digest(), name)
        database.execute("UPDATE backup_contents SET rows = ?, sha256 = ? WHERE table_name = ?", row)


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (truncate, "is no backup of a host, or not a whole one: database disk image is malformed|is damaged"),
        (flip, "is damaged: the table accounts is not what was written"),
        (cut_table, "is damaged: the table transcripts is not what was written"),
        (drop_table, "has other tables than a backup of its revision"),
        (put_foreign, "is no backup of a host: `pinaivu host backup` writes one"),
        (put_text, "is no backup of a host, or not a whole one: file is not a database"),
        (make_newer, r"is of a newer version \(9999\)"),
        (make_other_format, "is a backup of format 2, this version reads format 1"),
        (forge_leaf, "have another root than their checkpoint says; nothing was restored"),
        (cut_log, "its checkpoint covers"),
        (Path.unlink, "there is no file"),
    ],
)
def test_a_file_that_is_not_a_whole_backup_is_refused_and_the_database_stays_empty(
    source: Engine, empty: Engine, tmp_path: Path, spoil: Any, said: str
) -> None:
    path = tmp_path / "backup"
    write_backup(source, path)
    spoil(path)
    with pytest.raises(CallerError, match=said):
        restore_backup(path, empty)
    assert inspect(empty).get_table_names() == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (LEAVES.delete().where(LEAVES.c.leaf_index == 2), "leaf 2 is missing"),
        (TREE_NODES.delete().where(TREE_NODES.c.level > 0), "the table tree_nodes has gaps"),
        (TREE_NODES.update().values(hash=b"0" * 32), "the table tree_nodes is not that of the leaves"),
    ],
)
@pytest.mark.every_database
def test_a_log_with_a_fault_is_not_whole(source: Engine, spoil: Any, said: str) -> None:
    with source.connect() as connection:
        check_log(connection)
        connection.execute(spoil)
        with pytest.raises(VerificationError, match=said):
            check_log(connection)


@pytest.mark.every_database
def test_a_log_without_a_checkpoint_yet_is_whole(source: Engine) -> None:
    with source.connect() as connection:
        connection.execute(CHECKPOINTS.delete())
        assert check_log(connection).checkpoint_size is None


@pytest.mark.every_database
def test_the_commands_say_what_they_did(
    source: Engine, empty: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, url = str(tmp_path / "backup"), source.url.render_as_string(hide_password=False)
    assert host(["backup", "--database-url", url, "--output", place]) == 0
    said = capsys.readouterr()
    assert f"receipts {len(contents(source)['receipts'])}\n" in said.out
    assert said.err == f"pinaivu host: wrote {place}; it is as secret as the database\n"
    target = empty.url.render_as_string(hide_password=False)
    assert host(["restore", "--database-url", target, "--input", place]) == 0
    restored = capsys.readouterr()
    assert restored.out == said.out
    assert "that of the checkpoint" in restored.err
    assert host(["restore", "--database-url", target, "--input", place]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.every_database
def test_a_mistyped_folder_gives_no_backup(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host(["backup", "--database-url", database_url, "--output", str(tmp_path / "backup")]) == 2
    assert "there is no database of a host" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_backup_that_cannot_be_written_or_read_is_named_and_not_the_database(
    source: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    url, absent = source.url.render_as_string(hide_password=False), tmp_path / "nodir" / "backup"
    assert host(["backup", "--database-url", url, "--output", str(absent)]) == 2
    assert capsys.readouterr().err == f"pinaivu host: {absent} cannot be written: No such file or directory\n"
    (tmp_path / "backup").touch()
    monkeypatch.setattr(Path, "open", refuse)
    empty = tmp_path / "empty"
    assert host(["restore", "--data-dir", str(empty), "--input", str(tmp_path / "backup")]) == 2
    assert capsys.readouterr().err == f"pinaivu host: {tmp_path / 'backup'} cannot be read: Permission denied\n"
