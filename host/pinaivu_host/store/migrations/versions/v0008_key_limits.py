"""Limits of API keys, which key asked for what, and what each key was charged in a month.

Keys of before have no limits, and receipts of before name no key. On PostgreSQL also the counters of the limits, in
tables that are written to no log: a crash of the server empties them. On SQLite they have a file of their own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_SHOWN = ["request_id", "leaf_index", "model", "outcome", "prompt_tokens", "completion_tokens", "charge_micro_usdc"]


def upgrade() -> None:
    """Add the columns and the tables, and widen the index."""
    for name in ("requests_per_minute", "tokens_per_minute", "concurrent_requests", "monthly_budget_micro_usdc"):
        op.add_column("api_keys", sa.Column(name, sa.BigInteger, nullable=True))
    for table in ("receipts", "idempotency_keys"):
        op.add_column(table, sa.Column("key_id", sa.String(32), nullable=True))
    op.drop_index("receipts_of_account", "receipts")
    op.create_index("receipts_of_account", "receipts", ["account_id", "created_ms", *_SHOWN, "key_id"])
    op.create_table(
        "key_charges",
        sa.Column("key_id", sa.String(32), primary_key=True),
        sa.Column("month_ms", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("charged_micro_usdc", sa.BigInteger, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        _add_counters()


def _add_counters() -> None:
    op.create_table(
        "limit_windows",
        sa.Column("key", sa.String(128), primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False, index=True),
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        "limit_leases",
        sa.Column("lease_id", sa.String(40), primary_key=True),
        sa.Column("key_id", sa.String(32), nullable=False, index=True),
        sa.Column("running", sa.BigInteger, nullable=False),
        sa.Column("reserved_micro_usdc", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False, index=True),
        prefixes=["UNLOGGED"],
    )


def downgrade() -> None:
    """A key that was limited stays limited."""
    raise NotImplementedError
