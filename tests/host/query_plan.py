"""How a database goes about a query, for tests of indexes."""

from typing import Any

from sqlalchemy import Connection


def plan_of(connection: Connection, query: str, given: Any = None) -> list[str]:
    """How the database goes about a query, a step a line. PostgreSQL would read small tables whole."""
    if connection.dialect.name == "sqlite":
        return [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", given)]
    for way in ("seqscan", "bitmapscan"):
        connection.exec_driver_sql(f"SET enable_{way} = off")
    return [str(row[0]) for row in connection.exec_driver_sql(f"EXPLAIN (COSTS OFF) {query}", given)]
