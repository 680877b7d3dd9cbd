"""Where the counters of keys' limits lie: they may be lost with a machine, so they cost no write to a disk.

On SQLite they have a file of their own beside the host's, with synchronous=OFF. On PostgreSQL they are UNLOGGED tables
of the host's database, which migrations make. A power cut loses a minute's counts and the leases of jobs that went down
with it; a crash of a gateway loses nothing. They belong in no backup.
"""

from pathlib import Path
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Connection, Engine, MetaData, String, Table, create_engine, event, make_url
from sqlalchemy.schema import CreateIndex, CreateTable

METADATA: Final = MetaData()
BUSY_LIMIT_S: Final = 10

WINDOWS: Final = Table(
    "limit_windows",
    METADATA,
    Column("key", String(128), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False, index=True),
)

LEASES: Final = Table(  # requests that run (`running` 1), or whose receipt has not come (0), and what they may cost
    "limit_leases",
    METADATA,
    Column("lease_id", String(40), primary_key=True),
    Column("key_id", String(32), nullable=False, index=True),
    Column("running", BigInteger, nullable=False),
    Column("reserved_micro_usdc", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False, index=True),
)


def open_counters(database: Engine) -> Engine:
    """The engine of the counters that belong to this database: the same one, but for SQLite."""
    if database.dialect.name != "sqlite":
        return database
    name = make_url(database.url).database
    assert name is not None, "a host's database is a file"
    path = Path(name)
    path = path.with_name(f"{path.stem}-limits{path.suffix}")
    path.touch(mode=0o600)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_LIMIT_S}, hide_parameters=True)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    with engine.begin() as connection:
        for table in METADATA.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))
    return engine


def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
    connection.isolation_level = None  # transactions begin as `_begin` says
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.close()


def _begin(connection: Connection) -> None:
    """One writer at a time, from its first look on."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
