"""`pinaivu host backup`, `restore` and `rebuild`: the host's database in one file, and back, and out of its log."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinaivu_shared.errors import CallerError
from pinaivu_shared.flags import add_flag

if TYPE_CHECKING:
    from pinaivu_host.store.log_check import CheckedLog

BACKUP = """\
Write all of a host's database into one file, which `restore` reads, while the host goes on serving. The file shows one
moment. It holds the salts of receipts, digests of API keys and the sealed vault: keep it as secret as the database."""

RESTORE = """\
Fill an empty database, SQLite or PostgreSQL, from a backup of either, and check the log in it against its checkpoint.
The host must not run. A log that was continued since the backup would fork: see docs/operations.md first."""

REBUILD = """\
Make the tables of receipts, and of what keys were charged, anew out of the log's leaves, once the log was checked
against its checkpoint. One transaction sets right what was wrong. Salts, and which key asked, are in no leaf: they stay
where a receipt has them already; a receipt without a key counts for no key's budget. A host that serves meanwhile
waits: stop it where there are many receipts."""


def add_backup(commands: Any) -> None:  # noqa: ANN401 - argparse keeps that type to itself
    """The sub-command `backup`."""
    parser = commands.add_parser(
        "backup", help="write the database into one file, beside a running host", description=BACKUP
    )
    add_database(parser)
    add_flag(parser, "output", default=None, text="file to write; it must not be there")


def add_restore(commands: Any) -> None:  # noqa: ANN401 - as above
    """The sub-command `restore`."""
    parser = commands.add_parser("restore", help="fill an empty database from a backup", description=RESTORE)
    add_database(parser)
    add_flag(parser, "input", default=None, text="file that `pinaivu host backup` wrote")


def add_rebuild(commands: Any) -> None:  # noqa: ANN401 - as above
    """The sub-command `rebuild`."""
    parser = commands.add_parser("rebuild", help="make receipts and usage anew out of the log", description=REBUILD)
    add_database(parser)


def backup(options: argparse.Namespace) -> int:
    """Exit 0 once the file is on disk."""
    from pinaivu_host.store.backup import write_backup
    from pinaivu_host.store.engine import open_engine

    engine = open_engine(existing_database_url(options))
    try:
        rows = write_backup(engine, Path(options.output))
    finally:
        engine.dispose()
    for name, count in sorted(rows.items()):
        print(f"{name} {count}")
    print(f"pinaivu host: wrote {options.output}; it is as secret as the database", file=sys.stderr)
    return 0


def restore(options: argparse.Namespace) -> int:
    """Exit 0 once everything is in the database, and its log was checked."""
    from pinaivu_host.store.engine import open_engine
    from pinaivu_host.store.restore import restore_backup

    engine = open_engine(database_url(options))
    try:
        restored = restore_backup(Path(options.input), engine)
    finally:
        engine.dispose()
    for name, count in sorted(restored.rows.items()):
        print(f"{name} {count}")
    print(f"pinaivu host: restored; {_verdict(restored.log)}", file=sys.stderr)
    return 0


def rebuild(options: argparse.Namespace) -> int:
    """Exit 0 once the tables say what the log says."""
    from pinaivu_host.store.database import Database
    from pinaivu_host.store.rebuild import rebuild_database

    database = Database(existing_database_url(options))
    try:
        rebuilt = rebuild_database(database.engine)
    finally:
        database.close()
    print(f"receipts {rebuilt.receipts}\nreceipts_without_key {rebuilt.without_key}")
    print(f"pinaivu host: rebuilt; {_verdict(rebuilt.log)}", file=sys.stderr)
    return 0


def _verdict(log: "CheckedLog") -> str:
    covered = log.checkpoint_size
    verdict = "no checkpoint yet" if covered is None else f"the root of the first {covered} is that of the checkpoint"
    return f"the log has {log.size} leaves, {verdict}"


def database_url(options: argparse.Namespace) -> str:
    """The one of --data-dir and --database-url that was given."""
    from pinaivu_host.store.engine import parse_url, sqlite_url

    if bool(options.database_url) == bool(options.data_dir):
        raise CallerError("give one of --data-dir and --database-url")
    url: str = options.database_url or sqlite_url(Path(options.data_dir))
    parse_url(url)
    return url


def existing_database_url(options: argparse.Namespace) -> str:
    """The same; CallerError where no host has been at work there."""
    from pinaivu_host.store.engine import is_there

    url = database_url(options)
    if not is_there(url):
        hint = "; to make one, say --create" if "create" in options else ""
        raise CallerError(f"{_named_database(options)}: there is no database of a host{hint}")
    return url


def _named_database(options: argparse.Namespace) -> str:
    """The flag that says which database it is, without a password that may be in a URL."""
    return f"--data-dir {options.data_dir}" if options.data_dir else "--database-url"


def add_database(parser: argparse.ArgumentParser) -> None:
    """The two flags of which one is given."""
    add_flag(parser, "data-dir", default="", text="folder of the embedded database")
    add_flag(parser, "database-url", default="", text="SQLAlchemy URL of another database")
