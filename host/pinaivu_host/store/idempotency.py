"""Idempotency keys as they are stored: which job a key began, and the answer once it was whole.

How a job ended is not written here: its receipt says so (`gateway.idempotency` has the table of states). An answer is
content of a caller, the only one that this host stores, for KEPT_MS and in the database's own file.
"""

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, func, or_, select, update

from pinaivu_host.clock import now_ms
from pinaivu_host.store.database import Database, insert_missing
from pinaivu_host.store.leaf_rows import JobRecord
from pinaivu_host.store.schema import IDEMPOTENCY_KEYS, RECEIPTS
from pinaivu_shared.signed import Signed
from pinaivu_shared.wire.node import Delta

KEPT_MS: Final = 24 * 60 * 60 * 1000
_COLUMNS: Final = IDEMPOTENCY_KEYS.c


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key is stored. The key itself is not: callers put into it what they like."""

    account_id: str
    key_sha256: bytes


class KeptAnswer(msgspec.Struct, frozen=True, array_like=True):
    """A whole answer but for its usage, which the receipt has; and what the receipt's evidence needs of the gateway."""

    created_s: int
    deltas: list[Delta]
    transcripts: list[bytes]
    proof: Signed | None


@dataclass(frozen=True, slots=True)
class KeyUse:
    """The job that a key began. `answer` is None until it was whole."""

    place: Place
    body_sha256: bytes
    request_id: str
    salt: bytes
    answer: KeptAnswer | None = None
    key_id: str | None = None  # None: begun by a version that did not keep it

    def record(self) -> JobRecord:
        """What the journal keeps beside the job's receipt."""
        record = JobRecord(self.salt, key_id=self.key_id)
        if self.answer is not None:
            record.transcripts.extend(self.answer.transcripts)
            record.proof = self.answer.proof
        return record


@dataclass(frozen=True, slots=True)
class Holdings:
    """What an account has stored, and when the oldest of it was begun (0: nothing is stored)."""

    keys: int
    size_bytes: int
    oldest_ms: int


class KeyStore:
    """Point look-ups and short transactions. What is older than KEPT_MS is not there, deleted or not."""

    def __init__(self, database: Database, *, now_ms: Callable[[], int] = now_ms) -> None:
        self._database, self._now_ms = database, now_ms

    async def find(self, place: Place) -> KeyUse | None:
        """The job that this key began."""
        query = select(IDEMPOTENCY_KEYS).where(_at(place), _COLUMNS.begun_ms > self._oldest_ms())
        return await self._database.read(lambda connection: _one(connection.execute(query).first()))

    async def begin(self, use: KeyUse, *, instead_of: str = "") -> bool:
        """Return once the key's job is on disk. False, and nothing changed, if another one stands there.

        A job named `instead_of` is none of those that stand.
        """
        return await self._database.write(lambda connection: self._begin(connection, use, instead_of))

    async def keep(self, use: KeyUse, answer: KeptAnswer) -> bool:
        """Return once the answer is on disk; False if the key no longer belongs to this job."""
        return await self._database.write(lambda connection: _keep(connection, use, answer))

    async def forget(self, use: KeyUse) -> None:
        """The key is as if it had never been used, unless it belongs to another job by now."""
        change = delete(IDEMPOTENCY_KEYS).where(_at(use.place), _COLUMNS.request_id == use.request_id)
        await self._database.write(lambda connection: connection.execute(change))

    async def forget_expired(self) -> int:
        """Delete what is older than KEPT_MS; how many keys that were."""
        change = delete(IDEMPOTENCY_KEYS).where(_COLUMNS.begun_ms <= self._oldest_ms())
        return await self._database.write(lambda connection: connection.execute(change).rowcount)

    async def unsettled(self) -> list[KeyUse]:
        """The jobs that have no receipt yet."""
        query = (
            select(IDEMPOTENCY_KEYS)
            .join_from(IDEMPOTENCY_KEYS, RECEIPTS, RECEIPTS.c.request_id == _COLUMNS.request_id, isouter=True)
            .where(RECEIPTS.c.request_id.is_(None), _COLUMNS.begun_ms > self._oldest_ms())
        )
        return await self._database.read(lambda connection: [_use(row) for row in connection.execute(query)])

    async def holdings(self, account_id: str) -> Holdings:
        """What is stored for this account."""
        sums = select(func.count(), func.sum(_COLUMNS.size_bytes), func.min(_COLUMNS.begun_ms))
        query = sums.where(_COLUMNS.account_id == account_id, _COLUMNS.begun_ms > self._oldest_ms())
        row = await self._database.read(lambda connection: connection.execute(query).one())
        return Holdings(row[0], int(row[1] or 0), row[2] or 0)

    def _oldest_ms(self) -> int:
        return self._now_ms() - KEPT_MS

    def _begin(self, connection: Connection, use: KeyUse, instead_of: str) -> bool:
        gone = or_(_COLUMNS.begun_ms <= self._oldest_ms(), _COLUMNS.request_id == instead_of)
        connection.execute(delete(IDEMPOTENCY_KEYS).where(_at(use.place), gone))
        row = {
            "account_id": use.place.account_id,
            "key_sha256": use.place.key_sha256,
            "body_sha256": use.body_sha256,
            "request_id": use.request_id,
            "salt": use.salt,
            "key_id": use.key_id,
            "begun_ms": self._now_ms(),
            "size_bytes": 0,
        }
        insert_missing(connection, IDEMPOTENCY_KEYS, [row])
        stands = select(_COLUMNS.request_id).where(_at(use.place))
        return connection.execute(stands).scalar() == use.request_id


def place_of(account_id: str, key: str) -> Place:
    """Where this account's key is stored: another account's equal key is another one."""
    return Place(account_id, hashlib.sha256(key.encode()).digest())


def _at(place: Place) -> Any:  # noqa: ANN401 - SQLAlchemy's type of a condition is generic
    return (_COLUMNS.account_id == place.account_id) & (_COLUMNS.key_sha256 == place.key_sha256)


def _keep(connection: Connection, use: KeyUse, answer: KeptAnswer) -> bool:
    stored = zlib.compress(msgspec.msgpack.encode(answer), level=1)
    change = update(IDEMPOTENCY_KEYS).where(_at(use.place), _COLUMNS.request_id == use.request_id)
    return connection.execute(change.values(answer=stored, size_bytes=len(stored))).rowcount == 1


def _one(row: Any) -> KeyUse | None:  # noqa: ANN401 - a row of this table
    return None if row is None else _use(row)


def _use(row: Any) -> KeyUse:  # noqa: ANN401 - a row of this table
    answer = None if row.answer is None else msgspec.msgpack.decode(zlib.decompress(row.answer), type=KeptAnswer)
    place = Place(row.account_id, row.key_sha256)
    return KeyUse(place, row.body_sha256, row.request_id, row.salt, answer, row.key_id)
