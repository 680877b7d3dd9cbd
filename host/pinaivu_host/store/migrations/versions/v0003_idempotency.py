"""Idempotency keys, with the answers that are kept under them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "idempotency_keys",
        sa.Column("account_id", sa.String(64), primary_key=True),
        sa.Column("key_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("body_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("request_id", sa.String(40), nullable=False, unique=True),
        sa.Column("salt", sa.LargeBinary(32), nullable=False),
        sa.Column("begun_ms", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=True),
    )
    op.create_index("idempotency_keys_of_account", "idempotency_keys", ["account_id", "begun_ms", "size_bytes"])
    op.create_index("idempotency_keys_by_age", "idempotency_keys", ["begun_ms"])


def downgrade() -> None:
    """A key that was used stays used."""
    raise NotImplementedError
