"""Since when each model is offered here: what `created` of the model list says, the same after every restart."""

from sqlalchemy import select

from pinaivu_host.clock import now_ms
from pinaivu_host.store.database import Database, insert_missing
from pinaivu_host.store.schema import MODELS


class FirstQuotes:
    """When each model was first quoted, in milliseconds since 1970."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._first_ms: dict[str, int] = {}

    async def load(self) -> None:
        """Read what earlier processes saw."""
        rows = await self._database.read(lambda connection: connection.execute(select(MODELS)).all())
        self._first_ms = {row.model: row.first_quoted_ms for row in rows}

    async def note(self, model: str) -> None:
        """A node offers this model."""
        if model not in self._first_ms:
            self._first_ms[model] = now_ms()
            row = {"model": model, "first_quoted_ms": self._first_ms[model]}
            await self._database.write(lambda connection: insert_missing(connection, MODELS, [row]))

    def first_s(self, model: str) -> int:
        """Seconds since 1970 at which the model was first offered; 0 if it never was."""
        return self._first_ms.get(model, 0) // 1000
