"""API keys: what each may do, and until when. A key is shown once; what is stored is its SHA-256 (DESIGN section 5).

A key's id is the beginning of that digest, so it names the key and helps nobody to guess it.
"""

import asyncio
import functools
import hashlib
import logging
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Connection, Row, Update, bindparam, insert, select, update

from pinaivu_host.clock import now_ms
from pinaivu_host.store.database import Database
from pinaivu_host.store.schema import ACCOUNTS, API_KEYS
from pinaivu_shared.ids import API_KEY_PREFIX

logger = logging.getLogger(__name__)
Permission = Literal["full", "read_only"]
USE_EVERY_MS: Final = 60_000
"""How exactly it is known when a key was last used."""
LISTED_MAX: Final = 1000

_ID_BYTES: Final = 8
_DIGEST_BYTES: Final = 32
_KEY_ID: Final = re.compile(rf"key_([0-9a-f]{{{2 * _ID_BYTES}}})")
_DIGEST: Final = API_KEYS.c.key_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What the operator decides about a key. No `models` means all of them, no `expires_ms` that it never expires."""

    name: str
    permission: Permission
    models: tuple[str, ...] = ()
    expires_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its operator sees it, which is without the key. `prefix` are its first characters."""

    key_id: str
    account_id: str
    terms: KeyTerms
    prefix: str
    created_ms: int
    last_used_ms: int | None
    revoked_ms: int | None


class ApiKeys:
    """The keys of all accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, account_id: str, terms: KeyTerms) -> str | None:
        """A new key for an account, seen in full this once; None where there is no such account."""

        def change(connection: Connection) -> str | None:
            known = connection.execute(select(ACCOUNTS.c.id).where(ACCOUNTS.c.id == account_id)).first()
            return None if known is None else add_key(connection, account_id=account_id, terms=terms)

        return await self._database.write(change)

    async def of_account(self, account_id: str) -> list[ApiKey]:
        """The newest keys of an account, LISTED_MAX at most."""
        query = select(API_KEYS).where(API_KEYS.c.account_id == account_id)
        newest = query.order_by(API_KEYS.c.created_ms.desc(), _DIGEST).limit(LISTED_MAX)
        return [_key(row) for row in await self._database.read(lambda connection: connection.execute(newest).all())]

    async def revoke(self, key_id: str) -> ApiKey | None:
        """Take a key out of use for good; again changes nothing. None where there is no such key.

        Every host notices within accounts.CACHE_S.
        """
        beginning = _KEY_ID.fullmatch(key_id)
        if beginning is None:
            return None
        lowest = bytes.fromhex(beginning[1])
        padding = _DIGEST_BYTES - _ID_BYTES
        named = _DIGEST.between(lowest + b"\x00" * padding, lowest + b"\xff" * padding)

        def change(connection: Connection) -> ApiKey | None:
            unrevoked = API_KEYS.c.revoked_ms.is_(None)
            connection.execute(update(API_KEYS).where(named, unrevoked).values(revoked_ms=now_ms()))
            row = connection.execute(select(API_KEYS).where(named)).first()
            return None if row is None else _key(row)

        return await self._database.write(change)


class KeyUses:
    """Writes down when keys were last used: in the background, all that came up meanwhile in one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._used_ms: dict[bytes, int] = {}
        self._writing: asyncio.Task[None] | None = None

    def note(self, digest: bytes, *, last_ms: int | None) -> None:
        """A key is in use now; written unless `last_ms`, which is stored, is of this minute."""
        used_ms = now_ms()
        if last_ms is not None and used_ms - last_ms < USE_EVERY_MS:
            return
        self._used_ms[digest] = used_ms
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="last uses of API keys")
            self._writing.add_done_callback(self._written)

    async def written(self) -> None:
        """Once there is nothing left to write."""
        while self._writing is not None:
            await asyncio.wait({self._writing})

    async def _write(self) -> None:
        change = update(API_KEYS).where(bindparam("digest") == _DIGEST).values(last_used_ms=bindparam("used_ms"))
        while self._used_ms:
            rows = [{"digest": digest, "used_ms": used_ms} for digest, used_ms in self._used_ms.items()]
            self._used_ms.clear()
            await self._database.write(functools.partial(_execute, change, rows))

    def _written(self, writing: asyncio.Task[None]) -> None:
        self._writing = None
        if not writing.cancelled() and (error := writing.exception()) is not None:  # the next use will be written
            logger.warning("the last uses of keys were not written", extra={"kv": {"error": type(error).__name__}})


def _execute(change: Update, rows: list[dict[str, Any]], connection: Connection) -> None:
    connection.execute(change, rows)


def digest_of_key(api_key: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(api_key.encode()).digest()


def key_id_of(digest: bytes) -> str:
    """The name of a key: `key_` and 16 hex digits of its digest."""
    return "key_" + digest[:_ID_BYTES].hex()


def add_key(connection: Connection, *, account_id: str, terms: KeyTerms) -> str:
    """A new key for an account: the only time it is seen in full."""
    api_key = API_KEY_PREFIX + secrets.token_urlsafe(36)
    connection.execute(
        insert(API_KEYS).values(
            key_sha256=digest_of_key(api_key),
            account_id=account_id,
            label=terms.name,
            prefix=api_key[:12],
            created_ms=now_ms(),
            permission=terms.permission,
            models=msgspec.json.encode(terms.models).decode(),
            expires_ms=terms.expires_ms,
        )
    )
    return api_key


def terms_of(row: Row[Any]) -> KeyTerms:
    """The terms in a row of API_KEYS; msgspec.ValidationError for what this version never wrote."""
    return KeyTerms(
        name=row.label,
        permission=msgspec.convert(row.permission, Permission),
        models=msgspec.json.decode(row.models, type=tuple[str, ...]),
        expires_ms=row.expires_ms,
    )


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        key_id_of(row.key_sha256),
        row.account_id,
        terms_of(row),
        row.prefix,
        row.created_ms,
        row.last_used_ms,
        row.revoked_ms,
    )
