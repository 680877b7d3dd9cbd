"""What an API key may do, until when, and when it was last used. Accounts by age, to page through them.

Keys of before may do everything and never expire.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the index."""
    op.add_column("api_keys", sa.Column("permission", sa.String(16), nullable=False, server_default="full"))
    op.add_column("api_keys", sa.Column("models", sa.Text, nullable=False, server_default="[]"))
    op.add_column("api_keys", sa.Column("expires_ms", sa.BigInteger, nullable=True))
    op.add_column("api_keys", sa.Column("last_used_ms", sa.BigInteger, nullable=True))
    op.create_index("accounts_by_age", "accounts", ["created_ms", "id"])


def downgrade() -> None:
    """A key that was restricted stays restricted."""
    raise NotImplementedError
