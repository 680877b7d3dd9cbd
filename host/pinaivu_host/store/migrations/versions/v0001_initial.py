"""The first schema: accounts and keys, the journal of leaves, its projections."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    _accounts()
    _log()
    _receipts()
    op.create_table(
        "models",
        sa.Column("model", sa.String(255), primary_key=True),
        sa.Column("first_quoted_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """There is nothing before the first schema."""
    raise NotImplementedError


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("credit_micro_usdc", sa.BigInteger, nullable=False),
        sa.Column("spent_micro_usdc", sa.BigInteger, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("key_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("account_id", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("prefix", sa.String(12), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("revoked_ms", sa.BigInteger, nullable=True),
    )
    op.create_index("ix_api_keys_account_id", "api_keys", ["account_id"])


def _log() -> None:
    op.create_table(
        "leaves",
        sa.Column("leaf_index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "tree_nodes",
        sa.Column("level", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("node_index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
    )
    op.create_table(
        "checkpoints",
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "configurations",
        sa.Column("digest", sa.String(80), primary_key=True),
        sa.Column("leaf_index", sa.BigInteger, nullable=False),
        sa.Column("configuration", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "epochs",
        sa.Column("attestation", sa.String(80), primary_key=True),
        sa.Column("leaf_index", sa.BigInteger, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("manifest", sa.LargeBinary, nullable=False),
        sa.Column("configuration", sa.String(80), nullable=False),
    )


def _receipts() -> None:
    op.create_table(
        "receipts",
        sa.Column("request_id", sa.String(40), primary_key=True),
        sa.Column("leaf_index", sa.BigInteger, nullable=False, unique=True),
        sa.Column("account_id", sa.String(64), nullable=True),
        sa.Column("salt", sa.LargeBinary(32), nullable=True),
        sa.Column("charge_micro_usdc", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("node_id", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("transcript", sa.String(80), nullable=False),
        sa.Column("node_proof", sa.String(80), nullable=False),
        sa.Column("attestation", sa.String(80), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("receipts_of_account", "receipts", ["account_id", "created_ms"])
    op.create_table(
        "transcripts",
        sa.Column("digest", sa.String(80), primary_key=True),
        sa.Column("transcript", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "node_proofs",
        sa.Column("digest", sa.String(80), primary_key=True),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
