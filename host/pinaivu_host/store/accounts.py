"""Accounts, and who holds which API key of theirs (store.api_keys).

The credit shown here is a projection: deposits less charges, as the log's leaves say. The enclave's ledger decides what
may be spent; this one is for looking at, and keeps those out who certainly have nothing.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, tuple_

from pinaivu_host.clock import now_ms
from pinaivu_host.store.api_keys import KeyTerms, KeyUses, add_key, key_id_of, terms_of
from pinaivu_host.store.database import Database
from pinaivu_host.store.key_cache import KeyCache
from pinaivu_host.store.orders import add_order
from pinaivu_host.store.schema import ACCOUNTS, API_KEYS
from pinaivu_shared.signed import Signed


@dataclass(slots=True)
class Caller:
    """Whoever holds a key. `credit` falls as jobs of this process settle, and is read anew every second."""

    account_id: str
    credit: int  # micro-USDC, may be negative
    disabled: bool
    terms: KeyTerms
    key_id: str


@dataclass(frozen=True, slots=True)
class Account:
    """An account as its operator sees it; `credit` is what is left in micro-USDC, what jobs hold not counted."""

    account_id: str
    name: str
    credit: int
    created_ms: int


class Accounts:
    """Who may ask, and what they have left."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.uses: Final = KeyUses(database)
        self._cache: Final = KeyCache(self._find)

    async def holder(self, digest: bytes) -> Caller | None:
        """Who holds the key with this digest, as of at most CACHE_S ago, None if nobody does."""
        return await self._cache.holder(digest)

    async def holder_now(self, digest: bytes) -> Caller | None:
        """The same as the database has it now."""
        return await self._cache.holder_now(digest)

    async def _find(self, digests: Sequence[bytes]) -> dict[bytes, Caller]:
        """One query for all who ask at the same time."""
        found = {}
        for row in await self._database.read(lambda connection: _find_keys(connection, digests)):
            digest = bytes(row.key_sha256)
            found[digest] = caller = _caller(row, digest)
            if not caller.disabled and not has_expired(caller, now_ms()):
                self.uses.note(digest, last_ms=row.last_used_ms)
        return found

    async def create(self, *, name: str, account_id: str, deposit: Signed | None = None) -> str:
        """Open an account; its first key. Its first deposit goes into the outbox with it, both or neither."""

        def change(connection: Connection) -> str:
            row = {"id": account_id, "name": name, "credit_micro_usdc": 0, "spent_micro_usdc": 0}
            connection.execute(insert(ACCOUNTS).values(**row, created_ms=now_ms()))
            if deposit is not None:
                add_order(connection, deposit)
            return add_key(connection, account_id=account_id, terms=KeyTerms(name=name, permission="full"))

        return await self._database.write(change)

    async def account(self, account_id: str) -> Account | None:
        """An account by its id."""
        query = select(ACCOUNTS).where(ACCOUNTS.c.id == account_id)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else _account(row)

    async def page(self, *, after: Account | None, limit: int) -> list[Account]:
        """So many accounts, oldest first, those that came after one of them."""
        place = (ACCOUNTS.c.created_ms, ACCOUNTS.c.id)
        query = select(ACCOUNTS).order_by(*place).limit(limit)
        if after is not None:
            query = query.where(tuple_(*place) > (after.created_ms, after.account_id))
        return [_account(row) for row in await self._database.read(lambda connection: connection.execute(query).all())]


def new_account_id() -> str:
    """An id that no account has."""
    return "acct_" + secrets.token_hex(16)


def has_expired(caller: Caller, at_ms: int) -> bool:
    """Whether the key's time is over; judged at each request, however fresh the look-up is."""
    return caller.terms.expires_ms is not None and caller.terms.expires_ms <= at_ms


def _account(row: Row[Any]) -> Account:
    return Account(row.id, row.name, row.credit_micro_usdc - row.spent_micro_usdc, row.created_ms)


def _find_keys(connection: Connection, digests: Sequence[bytes]) -> Sequence[Row[Any]]:
    """Found by the index of digests."""
    credit = (ACCOUNTS.c.credit_micro_usdc - ACCOUNTS.c.spent_micro_usdc).label("credit")
    query = select(API_KEYS, credit).join_from(API_KEYS, ACCOUNTS)
    return connection.execute(query.where(API_KEYS.c.key_sha256.in_(digests))).all()


def _caller(row: Row[Any], digest: bytes) -> Caller:
    return Caller(
        row.account_id, row.credit, disabled=row.revoked_ms is not None, terms=terms_of(row), key_id=key_id_of(digest)
    )
