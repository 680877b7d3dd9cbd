"""Receipts by account with what usage sums, so that neither sums nor lists look at other rows than they show."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_BEFORE = ["account_id", "created_ms"]
_SHOWN = ["request_id", "leaf_index", "model", "outcome", "prompt_tokens", "completion_tokens", "charge_micro_usdc"]


def upgrade() -> None:
    """Widen the index."""
    op.drop_index("receipts_of_account", "receipts")
    op.create_index("receipts_of_account", "receipts", [*_BEFORE, *_SHOWN])


def downgrade() -> None:
    """Narrow it."""
    op.drop_index("receipts_of_account", "receipts")
    op.create_index("receipts_of_account", "receipts", _BEFORE)
