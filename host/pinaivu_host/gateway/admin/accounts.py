"""`/admin/v1/accounts`: the operator's own endpoints for accounts and their credit, under the admin key.

Credit is money of the enclave's ledger: it comes in by orders that the operator signed. What is shown of it is what the
log's leaves sum up to.
"""

from typing import Final, Literal

import msgspec
from starlette.types import Receive, Scope, Send

from pinaivu_host.gateway.admin.body import Amount, Name, OperatorShape, Reference, parse_amount, read_admin_body
from pinaivu_host.gateway.admin.orders import AdminOrders, new_reference
from pinaivu_host.gateway.authentication import authenticate_operator
from pinaivu_host.gateway.error_table import COORDINATOR_UNAVAILABLE, NOT_FOUND
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.http_answer import NO_STORE, send_json
from pinaivu_host.gateway.query import Query, wrong_parameter
from pinaivu_host.link import EnclaveLink
from pinaivu_host.store.accounts import Account, Accounts, new_account_id
from pinaivu_shared.money import decimal_usdc
from pinaivu_shared.signed import Signed

LISTED_DEFAULT: Final = 20
LISTED_MAX: Final = 1000


class NewAccount(OperatorShape):
    """Whom to open an account for, and what was paid in, in USDC."""

    name: Name
    credit: Amount = "0"


class NewDeposit(OperatorShape):
    """What was paid in, or given (`promotions`), in USDC. Without a reference it gets one of its own."""

    amount: Amount
    reference: Reference | None = None
    fund: Literal["deposits", "promotions"] = "deposits"


class AdminAccounts:
    """Accounts, their first keys, their credit."""

    def __init__(self, accounts: Accounts, orders: AdminOrders, link: EnclaveLink, *, admin_key: str | None) -> None:
        self._accounts, self._orders, self._link, self._admin_key = accounts, orders, link, admin_key

    async def create_account(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A new account with its first key, which is shown this once; 503, and no account, when there is no enclave.

        The key works when it is shown (200). Should the enclave go away meanwhile, it will work once it is back (202).
        """
        wanted = await read_admin_body(scope, receive, NewAccount, self._admin_key)
        credit = parse_amount(wanted.credit, "credit", at_least=0)
        account_id = new_account_id()
        deposit = self._opening_deposit(account_id, credit) if credit else None
        api_key = await self._accounts.create(name=wanted.name, account_id=account_id, deposit=deposit)
        works = deposit is None or (await self._orders.decided(deposit)).state == "recorded"
        shown = msgspec.json.encode({"account_id": account_id, "api_key": api_key})
        status = 200 if works else 202
        await send_json(send, shown, request_id=scope["state"]["request_id"], status=status, headers=(NO_STORE,))

    async def account(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """An account's name and what is left of its credit; what running jobs hold is not taken off."""
        authenticate_operator(scope, self._admin_key)
        shown = _shown(await self._account(scope))
        await send_json(send, msgspec.json.encode(shown), request_id=scope["state"]["request_id"])

    async def list(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """A page of all accounts, oldest first; `after` is the last account that the operator has."""
        authenticate_operator(scope, self._admin_key)
        query = Query(scope, ("after", "limit"))
        limit = query.number("limit", least=1, most=LISTED_MAX) or LISTED_DEFAULT
        after = None
        if (last := query.text("after")) is not None:
            after = await self._accounts.account(last)
            if after is None:
                raise wrong_parameter("after", "must be the id of an account")
        found = await self._accounts.page(after=after, limit=limit + 1)
        shown = {"object": "list", "data": [_shown(one) for one in found[:limit]], "has_more": len(found) > limit}
        await send_json(send, msgspec.json.encode(shown), request_id=scope["state"]["request_id"])

    async def deposit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Credit for an account."""
        wanted = await read_admin_body(scope, receive, NewDeposit, self._admin_key)
        account = await self._account(scope)
        signed = self._orders.key.deposit(
            reference=wanted.reference or new_reference("deposit"),
            account=account.account_id,
            amount=parse_amount(wanted.amount, "amount"),
            fund=wanted.fund,
        )
        await self._orders.answer(scope, send, signed)

    async def _account(self, scope: Scope) -> Account:
        account = await self._accounts.account(scope["path_params"]["account_id"])
        if account is None:
            raise no_account()
        return account

    def _opening_deposit(self, account_id: str, credit: int) -> Signed:
        key = self._orders.key
        if not self._link.ready:
            raise ApiError(COORDINATOR_UNAVAILABLE, "the coordinator is not available, so no account was opened")
        return key.opening_deposit(account=account_id, amount=credit)


def no_account() -> ApiError:
    """The error for an id that no account has."""
    return ApiError(NOT_FOUND, "there is no such account; GET /admin/v1/accounts lists them")


def _shown(account: Account) -> dict[str, object]:
    return {
        "account_id": account.account_id,
        "name": account.name,
        "credit": decimal_usdc(account.credit),
        "created_ms": account.created_ms,
    }
