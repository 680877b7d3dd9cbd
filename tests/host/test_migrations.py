"""Databases of earlier versions: every row stays, and nothing is made up for what they did not keep."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select

from pinaivu_host.store.database import Database, migrate, sqlite_url
from pinaivu_host.store.schema import ACCOUNTS, API_KEYS, METADATA, ORDERS, RECEIPTS, SEALED_VAULTS

ACCOUNT = {"id": "acct_1", "name": "ann", "credit_micro_usdc": 50, "spent_micro_usdc": 42, "created_ms": 1}
API_KEY = {
    "key_sha256": b"k" * 32,
    "account_id": "acct_1",
    "label": "ann",
    "prefix": "sk-pnv-abcde",
    "created_ms": 2,
    "revoked_ms": None,
}
RECEIPT = {
    "request_id": "req_1",
    "leaf_index": 3,
    "account_id": "acct_1",
    "salt": b"s" * 32,
    "charge_micro_usdc": 42,
    "model": "m",
    "node_id": "node_1",
    "outcome": "completed",
    "reason": "",
    "prompt_tokens": 1,
    "completion_tokens": 2,
    "transcript": "t",
    "node_proof": "p",
    "attestation": "a",
    "created_ms": 5,
}


def insert(engine: Engine, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(row)
    places = ", ".join(f":{name}" for name in row)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({places})", row)  # noqa: S608 - ours


def old_database(folder: Path, revision: str) -> None:
    """What a host of that version left behind."""
    engine = create_engine(sqlite_url(folder))
    migrate(engine, revision)
    insert(engine, "accounts", ACCOUNT)
    insert(engine, "api_keys", API_KEY)
    insert(engine, "receipts", RECEIPT)
    if revision != "0001":
        insert(engine, "sealed_vaults", {"origin": "log", "sealed": b"vault", "created_ms": 7})
    engine.dispose()


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_an_old_database_keeps_its_rows_and_knows_no_payment(tmp_path: Path, revision: str) -> None:
    old_database(tmp_path, revision)
    database = Database(sqlite_url(tmp_path))
    with database.engine.connect() as connection:
        assert connection.execute(select(ACCOUNTS)).one()._asdict() == ACCOUNT
        assert connection.execute(select(RECEIPTS)).one()._asdict() == RECEIPT | {"payment_micro_usdc": None}
        assert connection.execute(select(ORDERS)).all() == []
        vaults = connection.execute(select(SEALED_VAULTS.c.sealed)).scalars().all()
        assert connection.execute(select(API_KEYS)).one()._asdict() == API_KEY | {
            "permission": "full",
            "models": "[]",
            "expires_ms": None,
            "last_used_ms": None,
        }
        assert vaults == ([] if revision == "0001" else [b"vault"])
        assert set(METADATA.tables) <= set(database.engine.dialect.get_table_names(connection))
    database.close()
