"""Alembic's environment and the versions of the schema. Run at every start; nobody needs the alembic command."""
