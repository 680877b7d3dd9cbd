"""The operator's routes, under the admin key, as the OpenAPI document declares them."""

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from pinaivu_host.gateway.admin import accounts
from pinaivu_host.gateway.admin.keys import ChangedKey, NewKey
from pinaivu_host.gateway.admin.orders import NewPayout, SignedOrder
from pinaivu_host.gateway.error_table import (
    COORDINATOR_UNAVAILABLE,
    DATABASE_UNAVAILABLE,
    INVALID_REQUEST,
    NO_OPERATOR_KEY,
    NOT_FOUND,
    ORDER_CONFLICT,
    ORDER_REFUSED,
    UNSUPPORTED_PARAMETER,
    ErrorKind,
)
from pinaivu_host.gateway.openapi.answers import Answer, Count, Decimal, Milliseconds
from pinaivu_host.gateway.openapi.operation import Operation, Parameter, Success
from pinaivu_host.store.api_keys import Permission
from pinaivu_shared.ids import AccountId, NodeId

KeyId = Annotated[str, Meta(pattern=r"\Akey_[0-9a-f]{16}\Z")]


class OpenedAccount(Answer):
    """An account and its first key, which is shown this once."""

    account_id: AccountId
    api_key: str


class Account(Answer):
    """An account; `credit` is what is left of it, what running jobs hold not taken off."""

    account_id: AccountId
    name: str
    credit: Decimal
    created_ms: Milliseconds


class AccountPage(Answer):
    """Accounts, oldest first."""

    object: Literal["list"]
    data: list[Account]
    has_more: bool


class MadeKey(Answer):
    """A key, which is shown this once."""

    key_id: KeyId
    api_key: str


class ApiKey(Answer):
    """A key without the key."""

    key_id: KeyId
    account_id: AccountId
    name: str
    prefix: str
    permission: Permission
    models: list[str] | None
    created_ms: Milliseconds
    expires_ms: Milliseconds | None
    last_used_ms: Milliseconds | None
    revoked_ms: Milliseconds | None
    requests_per_minute: Count | None
    tokens_per_minute: Count | None
    concurrent_requests: Count | None
    monthly_budget: Annotated[int, Meta(ge=1, description="Micro-USDC in a UTC month.")] | None


class ApiKeyList(Answer):
    """All keys of an account, newest first."""

    object: Literal["list"]
    data: list[ApiKey]


class OrderState(Answer, kw_only=True):
    """An order and how it stands; a deposit names an account and a fund, a payout a node."""

    reference: str
    kind: Literal["deposit", "payout"]
    account_id: AccountId | UnsetType = UNSET
    node_id: NodeId | UnsetType = UNSET
    amount: Decimal
    fund: Literal["deposits", "promotions"] | UnsetType = UNSET
    created_ms: Milliseconds
    state: Literal["pending", "recorded", "refused"]
    leaf_index: Count | UnsetType = UNSET
    refusal: str | UnsetType = UNSET


class OrderList(Answer):
    """The newest orders, before all others those that wait."""

    orders: list[OrderState]


_ORDERED: Final = (
    Success(OrderState, description="It is in the log."),
    Success(OrderState, status=202, description="It waits for the enclave and will get there."),
)
_ACCOUNT: Final = {"account_id": "As it was opened."}
_ACCOUNTS: Final = "/admin/v1/accounts"


def _operation(
    method: str, path: str, summary: str, *, errors: tuple[ErrorKind, ...] = (), **fields: object
) -> Operation:
    errors = (*errors, DATABASE_UNAVAILABLE)
    return Operation(method=method, path=path, tag="operator", summary=summary, key="operator", errors=errors, **fields)  # type: ignore[arg-type]  # as its callers give them


ADMIN: Final = (
    Operation(  # answered without a database, too
        method="GET",
        path="/metrics",
        tag="operator",
        summary="Scrape the host's metrics",
        key="operator",
        answers=(Success({"type": "string"}, media_type=CONTENT_TYPE_PLAIN_0_0_4.split(";")[0]),),
    ),
    _operation(
        "POST",
        _ACCOUNTS,
        "Open an account with its first key",
        body=accounts.NewAccount,
        answers=(
            Success(OpenedAccount, description="The key works."),
            Success(OpenedAccount, status=202, description="The key works once the enclave is back."),
        ),
        errors=(NO_OPERATOR_KEY, COORDINATOR_UNAVAILABLE),
    ),
    _operation(
        "GET",
        _ACCOUNTS,
        "List the accounts",
        parameters=(
            Parameter("after", "The last account that one has.", {"type": "string"}),
            Parameter(
                "limit",
                "How many.",
                {"type": "integer", "minimum": 1, "maximum": accounts.LISTED_MAX, "default": accounts.LISTED_DEFAULT},
            ),
        ),
        answers=(Success(AccountPage),),
        errors=(INVALID_REQUEST, UNSUPPORTED_PARAMETER),
    ),
    _operation(
        "GET",
        _ACCOUNTS + "/{account_id}",
        "Show an account and what is left of its credit",
        answers=(Success(Account),),
        errors=(NOT_FOUND,),
        segments=_ACCOUNT,
    ),
    _operation(
        "POST",
        _ACCOUNTS + "/{account_id}/deposits",
        "Give an account credit",
        body=accounts.NewDeposit,
        answers=_ORDERED,
        errors=(NO_OPERATOR_KEY, NOT_FOUND, ORDER_CONFLICT, ORDER_REFUSED),
        segments=_ACCOUNT,
    ),
    _operation(
        "POST",
        _ACCOUNTS + "/{account_id}/keys",
        "Make another key for an account",
        body=NewKey,
        answers=(Success(MadeKey),),
        errors=(NOT_FOUND,),
        segments=_ACCOUNT,
    ),
    _operation(
        "GET",
        _ACCOUNTS + "/{account_id}/keys",
        "List an account's keys",
        answers=(Success(ApiKeyList),),
        errors=(NOT_FOUND,),
        segments=_ACCOUNT,
    ),
    _operation(
        "PATCH",
        "/admin/v1/keys/{key_id}",
        "Give a key another name, models, expiry or limits",
        body=ChangedKey,
        answers=(Success(ApiKey),),
        errors=(NOT_FOUND,),
        segments={"key_id": "Its id, which is not the key."},
    ),
    _operation(
        "DELETE",
        "/admin/v1/keys/{key_id}",
        "Revoke a key",
        answers=(Success(ApiKey),),
        errors=(NOT_FOUND,),
        segments={"key_id": "Its id, which is not the key."},
    ),
    _operation(
        "POST",
        "/admin/v1/payouts",
        "Record what was paid to a node",
        body=NewPayout,
        answers=_ORDERED,
        errors=(NO_OPERATOR_KEY, ORDER_CONFLICT, ORDER_REFUSED),
    ),
    _operation("GET", "/admin/v1/orders", "List the operator's orders", answers=(Success(OrderList),)),
    _operation(
        "POST",
        "/admin/v1/orders",
        "Hand in an order that was signed elsewhere",
        body=SignedOrder,
        answers=_ORDERED,
        errors=(ORDER_CONFLICT, ORDER_REFUSED),
    ),
)
