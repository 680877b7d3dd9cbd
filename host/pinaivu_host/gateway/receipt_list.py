"""`GET /v1/receipts`: the caller's receipts, newest first, each exactly as the enclave signed it."""

from typing import Final, get_args

import msgspec
from starlette.types import Receive, Scope, Send

from pinaivu_host.gateway.authentication import authenticate
from pinaivu_host.gateway.http_answer import NO_STORE, send_json
from pinaivu_host.gateway.query import Query, wrong_parameter
from pinaivu_host.store.accounts import Accounts
from pinaivu_host.store.usage import ReceiptFilter, Usage
from pinaivu_shared.canonical import Name
from pinaivu_shared.ids import RequestId
from pinaivu_shared.terms import Outcome

LISTED_DEFAULT: Final = 20
LISTED_MAX: Final = 100
PARAMETERS: Final = ("model", "api_key_id", "outcome", "since", "until", "after", "limit")


class ReceiptList:
    """`since` and `until` are seconds since 1970: a request came at `since` or later, and before `until`."""

    def __init__(self, usage: Usage, accounts: Accounts) -> None:
        self._usage, self._accounts = usage, accounts

    async def list(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """A page of them; `last_id` is the `after` of the next one."""
        caller = await authenticate(scope, self._accounts)
        query = Query(scope, PARAMETERS)
        limit = query.number("limit", least=1, most=LISTED_MAX) or LISTED_DEFAULT
        found = await self._usage.receipts(caller.account_id, _filter(query), limit=limit + 1)
        page = found[:limit]
        body = msgspec.json.encode({
            "object": "list",
            "data": [msgspec.Raw(receipt) for receipt in page],
            "has_more": len(found) > limit,
            "last_id": msgspec.json.decode(page[-1])["request_id"] if page else None,
        })  # fmt: skip
        await send_json(send, body, request_id=scope["state"]["request_id"], headers=(NO_STORE,))


def _filter(query: Query) -> ReceiptFilter:
    since_s, until_s = query.period_s("since", "until")
    return ReceiptFilter(
        since_ms=None if since_s is None else since_s * 1000,
        until_ms=None if until_s is None else until_s * 1000,
        model=_pattern(query, "model", Name, "is no name of a model"),
        key_id=query.key_id("api_key_id"),
        outcome=query.choice("outcome", get_args(Outcome)),
        after=_pattern(query, "after", RequestId, "must be the id of a request, as `last_id` of a page is"),
    )


def _pattern(query: Query, name: str, kind: object, reason: str) -> str | None:
    text = query.text(name)
    if text is None:
        return None
    try:
        found: str = msgspec.convert(text, kind)
    except msgspec.ValidationError:
        raise wrong_parameter(name, reason) from None
    return found
