"""The market's tables: orders of the operator, and projections of nodes, statements and suspensions.

Receipts of before keep their charge. What of it was paid to the node was not kept: it stays NULL.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables, and the payment to receipts."""
    op.add_column("receipts", sa.Column("payment_micro_usdc", sa.BigInteger, nullable=True))
    op.create_table(
        "orders",
        sa.Column("reference", sa.String(128), primary_key=True),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("leaf_index", sa.BigInteger, nullable=True),
        sa.Column("refusal", sa.Text, nullable=True),
    )
    op.create_index("orders_by_leaf", "orders", ["leaf_index"])
    op.create_table(
        "nodes",
        sa.Column("node_id", sa.String(64), primary_key=True),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("registered_ms", sa.BigInteger, nullable=False),
    )
    _statements()


def downgrade() -> None:
    """An order of the operator is never thrown away."""
    raise NotImplementedError


def _statements() -> None:
    op.create_table(
        "statements",
        sa.Column("node_id", sa.String(64), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("leaf_index", sa.BigInteger, nullable=False),
        sa.Column("amount_micro_usdc", sa.BigInteger, nullable=False),
        sa.Column("payable_micro_usdc", sa.BigInteger, nullable=False),
        sa.Column("period_start_ms", sa.BigInteger, nullable=False),
        sa.Column("period_end_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "suspensions",
        sa.Column("leaf_index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("node_id", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("request_id", sa.String(40), nullable=False),
        sa.Column("suspended_ms", sa.BigInteger, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_suspensions_node_id", "suspensions", ["node_id"])
