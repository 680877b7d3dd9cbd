"""Receipts by node, so that what a node has earned is summed from its own receipts only."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index("receipts_of_node", "receipts", ["node_id", "leaf_index"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("receipts_of_node", "receipts")
