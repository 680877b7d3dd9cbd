"""`/admin/v1/`: the operator's own endpoints, under the admin key."""

from typing import Annotated, Final

import msgspec
from pydantic import Field
from starlette.types import Receive, Scope, Send

from pinaivu_host.gateway.authentication import authenticate_operator
from pinaivu_host.gateway.body import parse_object, read_body
from pinaivu_host.gateway.chat_request import validated
from pinaivu_host.gateway.errors import INVALID_VALUE, NOT_FOUND, ApiError, Detail
from pinaivu_host.gateway.messages import Shape
from pinaivu_host.gateway.responses import send_json
from pinaivu_host.store.accounts import Accounts
from pinaivu_shared.money import parse_usdc

ADMIN_BODY_BYTES_MAX: Final = 16 * 1024
CREDIT_MAX: Final = 10**15
"""A billion USDC: what a signed 64-bit integer holds with room for sums."""


class NewAccount(Shape):
    """Whom to open an account for, and what was paid in, in USDC."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    credit: Annotated[str, Field(max_length=40)] = "0"


class Admin:
    """Credit is deposits minus charges, kept by the host until the enclave's ledger holds customer accounts."""

    def __init__(self, accounts: Accounts, *, admin_key: str | None) -> None:
        self._accounts, self._admin_key = accounts, admin_key

    async def create_account(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A new account with its first key, which is shown this once."""
        authenticate_operator(scope, self._admin_key)
        wanted = validated(NewAccount, parse_object(await read_body(scope, receive, max_bytes=ADMIN_BODY_BYTES_MAX)))
        account_id, api_key = await self._accounts.create(name=wanted.name, credit=parse_credit(wanted.credit))
        shown = msgspec.json.encode({"account_id": account_id, "api_key": api_key})
        headers = (("cache-control", "no-store"),)
        await send_json(send, shown, request_id=scope["state"]["request_id"], headers=headers)

    async def account(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """An account's name and what is left of its credit."""
        authenticate_operator(scope, self._admin_key)
        account = await self._accounts.account(scope["path_params"]["account_id"])
        if account is None:
            raise ApiError(NOT_FOUND, "there is no such account")
        shown = {"account_id": account.account_id, "name": account.name, "credit": format_credit(account.credit)}
        await send_json(send, msgspec.json.encode(shown), request_id=scope["state"]["request_id"])


def parse_credit(text: str) -> int:
    """Micro-USDC from a decimal text; ApiError (422) for anything else or too much."""
    try:
        credit = parse_usdc(text)
    except ValueError as error:
        raise _wrong_credit(str(error)) from None
    if credit > CREDIT_MAX:
        raise _wrong_credit("more than an account can hold")
    return credit


def format_credit(credit: int) -> str:
    """Decimal text with six digits after the point; an account may have gone a little below zero."""
    sign = "-" if credit < 0 else ""
    return f"{sign}{abs(credit) // 1_000_000}.{abs(credit) % 1_000_000:06d}"


def _wrong_credit(reason: str) -> ApiError:
    detail = Detail(("body", "credit"), reason, "value_error")
    return ApiError(INVALID_VALUE, f"credit: {reason}", param="credit", detail=(detail,))
