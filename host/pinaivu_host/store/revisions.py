"""Revisions of the schema: which one a database has, and how it gets to the newest (store.migrations)."""

import functools
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, func, select, text

from pinaivu_shared.errors import CallerError

VERSION_TABLE: Final = "alembic_version"
NEWEST: Final = "head"
_FOLDER: Final = Path(__file__).parent / "migrations"
_TURN: Final = 0x70696E616976750A
"""The advisory lock of PostgreSQL that whoever changes the schema holds; the number is the project's name in ASCII."""


def migrate(engine: Engine, revision: str = NEWEST) -> None:
    """Bring the schema to this revision in one transaction, whatever else starts at the same time.

    CallerError for a database of a newer version than this.
    """
    with engine.begin() as connection:
        take_turn(connection)
        upgrade(connection, revision)


def take_turn(connection: Connection) -> None:
    """Be the only one that changes the schema until the transaction, which begins here, ends."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver itself begins none before a change of the schema
    else:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(select(func.pg_advisory_xact_lock(_TURN)))


def upgrade(connection: Connection, revision: str = NEWEST) -> None:
    """As `migrate`, in the caller's transaction, who has the turn."""
    from alembic import command  # noqa: PLC0415 - a heavy import, needed once

    found = revision_of(connection)
    if found is not None and found not in known_revisions():
        raise CallerError(
            f"the database is of revision {found[:40]}, which this version does not know: use the version that wrote "
            "it, or a newer one"
        )
    configuration = _configuration()
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, revision)


def revision_of(connection: Connection) -> str | None:
    """The revision that a database has; None where no migration ever ran."""
    from alembic.migration import MigrationContext  # noqa: PLC0415

    return MigrationContext.configure(connection).get_current_revision()


@functools.cache
def known_revisions() -> tuple[str, ...]:
    """All of them, oldest first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(_configuration()).walk_revisions()
    return tuple(script.revision for script in scripts)[::-1]


def _configuration() -> Any:  # noqa: ANN401 - of Alembic's
    from alembic.config import Config  # noqa: PLC0415

    configuration = Config()
    configuration.set_main_option("script_location", str(_FOLDER))
    configuration.set_main_option("path_separator", "os")
    return configuration
