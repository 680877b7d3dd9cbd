"""The sealed vault secret of one log, as KMS gave it: never overwritten, and set aside only while there is no log."""

from sqlalchemy import Connection, select, update

from pinaivu_host.clock import now_ms
from pinaivu_host.errors import VaultConflictError
from pinaivu_host.store.database import Database, insert_missing
from pinaivu_host.store.schema import SEALED_VAULTS
from pinaivu_shared.ids import digest_of


class SealedVault:
    """Where the log of this origin keeps its sealed vault. It is opaque here; only an attested enclave can open it."""

    def __init__(self, database: Database, *, origin: str) -> None:
        self._database = database
        self.origin = origin

    async def load(self) -> bytes:
        """What is stored, empty where nothing is."""
        return await self._database.read(self._stored)

    async def keep(self, sealed: bytes) -> None:
        """Return once it is on disk; VaultConflictError, and nothing changed, where another one is stored."""
        stored = await self._database.write(lambda connection: self._keep(connection, sealed))
        if stored != sealed:
            raise VaultConflictError(self.origin, stored=digest_of(stored), given=digest_of(sealed))

    async def begin(self, sealed: bytes) -> None:
        """Return once the vault of a log that begins is on disk. One of an earlier beginning is set aside, not lost."""
        await self._database.write(lambda connection: self._begin(connection, sealed))

    def _begin(self, connection: Connection, sealed: bytes) -> None:
        stored = self._stored(connection)
        if stored and stored != sealed:
            place = update(SEALED_VAULTS).where(SEALED_VAULTS.c.origin == self.origin)
            connection.execute(place.values(origin=f"{self.origin} until {now_ms()}"))
        self._keep(connection, sealed)

    def _stored(self, connection: Connection) -> bytes:
        query = select(SEALED_VAULTS.c.sealed).where(SEALED_VAULTS.c.origin == self.origin)
        sealed: bytes | None = connection.execute(query).scalar()
        return sealed or b""

    def _keep(self, connection: Connection, sealed: bytes) -> bytes:
        row = {"origin": self.origin, "sealed": sealed, "created_ms": now_ms()}
        insert_missing(connection, SEALED_VAULTS, [row])
        return self._stored(connection)
