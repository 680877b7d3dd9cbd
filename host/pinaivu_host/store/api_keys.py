"""API keys: what each may do, and until when. A key is shown once; what is stored is its SHA-256 (DESIGN section 5).

A key's id is the beginning of that digest, so it names the key and helps nobody to guess it.
"""

import asyncio
import functools
import hashlib
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Update, bindparam, false, insert, select, update

from pinaivu_host.clock import now_ms
from pinaivu_host.store.database import Database
from pinaivu_host.store.schema import ACCOUNTS, API_KEYS
from pinaivu_shared.ids import API_KEY_PREFIX

logger = logging.getLogger(__name__)
Permission = Literal["full", "read_only"]
USE_EVERY_MS: Final = 60_000
"""How exactly it is known when a key was last used."""
LISTED_MAX: Final = 1000

_KEY: Final = re.compile(re.escape(API_KEY_PREFIX) + r"[A-Za-z0-9_-]{48}")
_ID_BYTES: Final = 8
_DIGEST_BYTES: Final = 32
_KEY_ID: Final = re.compile(rf"key_([0-9a-f]{{{2 * _ID_BYTES}}})")
_DIGEST: Final = API_KEYS.c.key_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """How much a key may use, each 1 or more; None is no limit. `monthly_budget` is micro-USDC in a UTC month."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    monthly_budget: int | None = None

    @property
    def has_budget(self) -> bool:
        """Whether what it may spend is limited."""
        return self.monthly_budget is not None


NO_LIMITS: Final = KeyLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What the operator decides about a key. No `models` means all of them, no `expires_ms` that it never expires."""

    name: str
    permission: Permission
    models: tuple[str, ...] = ()
    expires_ms: int | None = None
    limits: KeyLimits = NO_LIMITS


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

    async def change(self, key_id: str, terms_from: Callable[[KeyTerms], KeyTerms]) -> ApiKey | None:
        """Give a key terms made of those it has; its permission stays. None where there is no such key.

        Every host notices within key_cache.CACHE_S.
        """
        named = _named(key_id)

        def change(connection: Connection) -> ApiKey | None:
            row = connection.execute(select(API_KEYS).where(named).with_for_update()).first()
            if row is None:
                return None
            connection.execute(update(API_KEYS).where(named).values(**_changeable(terms_from(terms_of(row)))))
            return _key(connection.execute(select(API_KEYS).where(named)).one())

        return await self._database.write(change)

    async def revoke(self, key_id: str) -> ApiKey | None:
        """Take a key out of use for good; again changes nothing. None where there is no such key.

        Every host notices within key_cache.CACHE_S.
        """
        named = _named(key_id)

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


def is_api_key(text: str) -> bool:
    """Whether this could be a key: one that could not is looked up nowhere."""
    return _KEY.fullmatch(text) is not None


def digest_of_key(api_key: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(api_key.encode()).digest()


def key_id_of(digest: bytes) -> str:
    """The name of a key: `key_` and 16 hex digits of its digest."""
    return "key_" + digest[:_ID_BYTES].hex()


def is_key_id(text: str) -> bool:
    """Whether a key could have this id."""
    return _KEY_ID.fullmatch(text) is not None


def add_key(connection: Connection, *, account_id: str, terms: KeyTerms) -> str:
    """A new key for an account: the only time it is seen in full."""
    api_key = API_KEY_PREFIX + secrets.token_urlsafe(36)
    connection.execute(
        insert(API_KEYS).values(
            key_sha256=digest_of_key(api_key),
            account_id=account_id,
            prefix=api_key[:12],
            created_ms=now_ms(),
            permission=terms.permission,
            **_changeable(terms),
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
        limits=KeyLimits(
            requests_per_minute=row.requests_per_minute,
            tokens_per_minute=row.tokens_per_minute,
            concurrent_requests=row.concurrent_requests,
            monthly_budget=row.monthly_budget_micro_usdc,
        ),
    )


def _changeable(terms: KeyTerms) -> dict[str, Any]:
    return {
        "label": terms.name,
        "models": msgspec.json.encode(terms.models).decode(),
        "expires_ms": terms.expires_ms,
        "requests_per_minute": terms.limits.requests_per_minute,
        "tokens_per_minute": terms.limits.tokens_per_minute,
        "concurrent_requests": terms.limits.concurrent_requests,
        "monthly_budget_micro_usdc": terms.limits.monthly_budget,
    }


def _named(key_id: str) -> ColumnElement[bool]:
    """The key whose digest begins so; no key for what names none."""
    beginning = _KEY_ID.fullmatch(key_id)
    if beginning is None:
        return false()
    lowest = bytes.fromhex(beginning[1])
    padding = _DIGEST_BYTES - _ID_BYTES
    return _DIGEST.between(lowest + b"\x00" * padding, lowest + b"\xff" * padding)


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
