"""`/admin/v1/accounts/{account_id}/keys` and `/admin/v1/keys/{key_id}`: the operator's endpoints for API keys."""

import dataclasses
from typing import Annotated, Any, Final

import msgspec
from pydantic import AfterValidator, Field
from starlette.types import Receive, Scope, Send

from pinaivu_host.clock import now_ms
from pinaivu_host.gateway.admin.accounts import no_account
from pinaivu_host.gateway.admin.body import Name, OperatorShape, read_admin_body
from pinaivu_host.gateway.authentication import authenticate_operator
from pinaivu_host.gateway.error_table import NOT_FOUND
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.http_answer import NO_STORE, send_json
from pinaivu_host.gateway.order import MODEL_NAME_MAX
from pinaivu_host.store.accounts import Accounts
from pinaivu_host.store.api_keys import ApiKey, ApiKeys, KeyLimits, KeyTerms, Permission, digest_of_key, key_id_of
from pinaivu_host.store.usage import DAY_MS
from pinaivu_shared.money import AMOUNT_MAX

EXPIRY_DAYS_MAX: Final = 3650
MODELS_MAX: Final = 100

LIMITS: Final = tuple(field.name for field in dataclasses.fields(KeyLimits))


def _not_empty(models: list[str]) -> list[str]:
    """Whoever sends an empty list has computed it, and means no key for everything."""
    if not models:
        raise ValueError("names no model; leave it out, or send null, for all of them")
    return models


Model = Annotated[str, Field(min_length=1, max_length=MODEL_NAME_MAX)]
Models = Annotated[list[Model], Field(max_length=MODELS_MAX), AfterValidator(_not_empty)]
Limit = Annotated[int, Field(ge=1, le=AMOUNT_MAX)] | None


class _Terms(OperatorShape):
    """What can be said of a key when it is made and later; budgets are micro-USDC."""

    expires_in_days: Annotated[int, Field(ge=1, le=EXPIRY_DAYS_MAX)] | None = None
    models: Models | None = None
    requests_per_minute: Limit = None
    tokens_per_minute: Limit = None
    concurrent_requests: Limit = None
    monthly_budget: Limit = None

    def given(self, at_ms: int) -> dict[str, Any]:
        """Fields of KeyTerms for what was sent at this time, `limits` as a mapping of its own fields."""
        sent = self.model_dump(exclude_unset=True)
        if "expires_in_days" in sent:
            days = sent.pop("expires_in_days")
            sent["expires_ms"] = None if days is None else at_ms + days * DAY_MS
        if "models" in sent:
            sent["models"] = tuple(sorted(set(sent["models"] or ())))
        return sent | {"limits": {name: sent.pop(name) for name in LIMITS if name in sent}}


class NewKey(_Terms):
    """What a key is called and what it may do; without more than a name, everything, for ever."""

    name: Name
    permission: Permission = "full"

    def terms(self, at_ms: int) -> KeyTerms:
        """The terms of a key that is made at this time."""
        given = {"permission": self.permission} | self.given(at_ms)
        return KeyTerms(**given | {"limits": KeyLimits(**given["limits"])})


class ChangedKey(_Terms):
    """What is to be different from now on. What is not sent stays; null takes a term away."""

    name: Name = ""

    def terms(self, before: KeyTerms, at_ms: int) -> KeyTerms:
        """The terms of a key that had others and is changed at this time."""
        given = self.given(at_ms)
        return dataclasses.replace(before, **given | {"limits": dataclasses.replace(before.limits, **given["limits"])})


class AdminKeys:
    """Made, shown and revoked by the operator. Times are milliseconds since 1970."""

    def __init__(self, keys: ApiKeys, accounts: Accounts, *, admin_key: str | None) -> None:
        self._keys, self._accounts, self._admin_key = keys, accounts, admin_key

    async def create(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Another key for an account, shown this once."""
        wanted = await read_admin_body(scope, receive, NewKey, self._admin_key)
        api_key = await self._keys.create(scope["path_params"]["account_id"], wanted.terms(now_ms()))
        if api_key is None:
            raise no_account()
        shown = msgspec.json.encode({"key_id": key_id_of(digest_of_key(api_key)), "api_key": api_key})
        await send_json(send, shown, request_id=scope["state"]["request_id"], headers=(NO_STORE,))

    async def list(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """An account's keys, newest first, those that are revoked among them."""
        authenticate_operator(scope, self._admin_key)
        account_id = scope["path_params"]["account_id"]
        if await self._accounts.account(account_id) is None:
            raise no_account()
        shown = {"object": "list", "data": [_shown(key) for key in await self._keys.of_account(account_id)]}
        await send_json(send, msgspec.json.encode(shown), request_id=scope["state"]["request_id"])

    async def change(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give a key another name, list of models, expiry or limits; on every host within a second."""
        wanted = await read_admin_body(scope, receive, ChangedKey, self._admin_key)
        changed = await self._keys.change(scope["path_params"]["key_id"], lambda before: wanted.terms(before, now_ms()))
        if changed is None:
            raise _no_key()
        await send_json(send, msgspec.json.encode(_shown(changed)), request_id=scope["state"]["request_id"])

    async def revoke(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Take a key out of use; on every host within a second. It stays in the list."""
        authenticate_operator(scope, self._admin_key)
        revoked = await self._keys.revoke(scope["path_params"]["key_id"])
        if revoked is None:
            raise _no_key()
        await send_json(send, msgspec.json.encode(_shown(revoked)), request_id=scope["state"]["request_id"])


def _no_key() -> ApiError:
    return ApiError(NOT_FOUND, "there is no such key; what names one is its key_id, such as key_0123456789abcdef")


def _shown(key: ApiKey) -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "account_id": key.account_id,
        "name": key.terms.name,
        "prefix": key.prefix,
        "permission": key.terms.permission,
        "models": key.terms.models or None,
        **dataclasses.asdict(key.terms.limits),
        "created_ms": key.created_ms,
        "expires_ms": key.terms.expires_ms,
        "last_used_ms": key.last_used_ms,
        "revoked_ms": key.revoked_ms,
    }
