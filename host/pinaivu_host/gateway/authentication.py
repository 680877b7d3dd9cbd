"""Who is asking: API keys of callers, the one key of the operator. Decided before a body is read."""

import hashlib
import hmac
from collections.abc import Callable
from functools import partial

from starlette.types import Scope

from pinaivu_host.clock import now_ms
from pinaivu_host.gateway.access import CALLER
from pinaivu_host.gateway.body import header
from pinaivu_host.gateway.error_table import (
    INSUFFICIENT_CREDIT,
    INVALID_API_KEY,
    KEY_DISABLED,
    MISSING_API_KEY,
    MODEL_NOT_ALLOWED,
    PERMISSION_DENIED,
)
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.store.accounts import Accounts, Caller, has_expired
from pinaivu_host.store.api_keys import NO_LIMITS, digest_of_key, is_api_key

Note = Callable[[Caller | None], None]
"""Hears whose key it is before it is judged."""


def _no_note(_caller: Caller | None) -> None:
    pass


async def authenticate(scope: Scope, accounts: Accounts) -> Caller:
    """The caller of this request; ApiError (401, 403) without a key that is valid."""
    return await _holder(key_digest(scope), accounts, partial(_note, scope))


async def authenticate_asker(scope: Scope, accounts: Accounts) -> Caller:
    """As `authenticate`, and 403 for a key that may only look."""
    return await asker_of(key_digest(scope), accounts, partial(_note, scope))


async def authenticate_payer(scope: Scope, accounts: Accounts) -> Caller:
    """As `authenticate_asker`, and 429 for an account with nothing left to spend."""
    return await payer_of(key_digest(scope), accounts, partial(_note, scope))


def key_digest(scope: Scope) -> bytes:
    """The digest of the key that the request carries; ApiError (401) without one, or for what cannot be one."""
    api_key = _bearer(scope)
    if not is_api_key(api_key):
        raise _not_valid()
    return digest_of_key(api_key)


async def asker_of(digest: bytes, accounts: Accounts, note: Note = _no_note) -> Caller:
    """As `authenticate_asker`, for the key with this digest."""
    return _may_ask(await _holder(digest, accounts, note))


async def payer_of(digest: bytes, accounts: Accounts, note: Note = _no_note) -> Caller:
    """As `authenticate_payer`, for the key with this digest."""
    caller = await asker_of(digest, accounts, note)
    if caller.credit <= 0:  # before saying so, see whether somebody has just paid in
        caller = _may_ask(_enabled(await accounts.holder_now(digest)))
    if caller.credit <= 0:
        raise ApiError(INSUFFICIENT_CREDIT, "this account has no credit left")
    return caller


def check_model_allowed(caller: Caller, model: str) -> None:
    """ApiError (403) for a model that is not on the key's list, whether or not there is such a model."""
    if caller.terms.models and model not in caller.terms.models:
        raise ApiError(MODEL_NOT_ALLOWED, f"this API key may not ask for the model {model[:100]!r}", param="model")


def authenticate_operator(scope: Scope, admin_key: str | None) -> None:
    """ApiError (401) unless the request carries the admin key."""
    given = hashlib.sha256(_bearer(scope).encode()).digest()
    if admin_key is None or not hmac.compare_digest(given, hashlib.sha256(admin_key.encode()).digest()):
        raise ApiError(INVALID_API_KEY, "this is not the admin key")


async def _holder(digest: bytes, accounts: Accounts, note: Note) -> Caller:
    caller = await accounts.holder(digest)
    note(caller)
    return _enabled(caller)


def _note(scope: Scope, caller: Caller | None) -> None:
    """Whoever sends the answer, an error too, says what is left of the key's limits."""
    if caller is not None and caller.terms.limits != NO_LIMITS:
        scope["state"][CALLER] = caller


def _bearer(scope: Scope) -> str:
    scheme, _, key = (header(scope, b"authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise ApiError(MISSING_API_KEY, "send your API key in the header `Authorization: Bearer sk-pnv-...`")
    return key.strip()


def _enabled(caller: Caller | None) -> Caller:
    if caller is None:
        raise _not_valid()
    if caller.disabled:
        raise ApiError(KEY_DISABLED, "this API key has been revoked")
    if has_expired(caller, now_ms()):
        raise ApiError(INVALID_API_KEY, "this API key has expired")
    return caller


def _may_ask(caller: Caller) -> Caller:
    if caller.terms.permission != "full":
        raise ApiError(PERMISSION_DENIED, "this API key is read-only: it may look, and ask no model")
    return caller


def _not_valid() -> ApiError:
    return ApiError(INVALID_API_KEY, "this API key is not valid")
