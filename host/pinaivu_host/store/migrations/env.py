"""What Alembic runs: the migrations, on the connection that `revisions.upgrade` put into its configuration."""

from alembic import context

from pinaivu_host.store.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
