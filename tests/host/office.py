"""A gateway with nothing but what an account is shown of its money, over a database with a market's leaves."""

from typing import Any, Self

import httpx
from sqlalchemy import Delete, Update, select
from tests.enclave.market import ACCOUNT, START_MS, Market, Node
from tests.host.town import CONFIGURATION

from pinaivu_host.gateway.app import Gateway, route
from pinaivu_host.gateway.cors import Cors
from pinaivu_host.gateway.pricing import Pricing
from pinaivu_host.gateway.receipt_list import ReceiptList
from pinaivu_host.gateway.usage import UsageReport
from pinaivu_host.metrics import Metrics
from pinaivu_host.store.accounts import Accounts
from pinaivu_host.store.database import Database
from pinaivu_host.store.journal import Journal
from pinaivu_host.store.leaf_rows import JobRecord
from pinaivu_host.store.schema import RECEIPTS
from pinaivu_host.store.usage import Usage
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.receipt import Receipt

DAY_MS = 86_400_000
DAY_S = 86_400
FIRST_DAY_S = START_MS // DAY_MS * DAY_S
OTHER = "acct_" + "b" * 32
KEY_1, KEY_2 = "key_" + "1" * 16, "key_" + "2" * 16


class Office:
    """Its market, and two accounts that look: that of the market's jobs, and another."""

    def __init__(self, database_url: str) -> None:
        self.database = Database(database_url)
        self.journal = Journal(self.database)
        self.accounts = Accounts(self.database)
        usage = Usage(self.database)
        self.app = Gateway([
            route("/v1/usage", "GET", UsageReport(usage, self.accounts).report),
            route("/v1/receipts", "GET", ReceiptList(usage, self.accounts).list),
            route("/v1/pricing", "GET", Pricing(CONFIGURATION).list),
        ], Metrics(()), Cors())  # fmt: skip
        self.market = Market()
        self.node = Node(self.market, "a").register().quote()

    async def open(self) -> Self:
        await self.journal.start()
        self.client = await self.client_of(ACCOUNT)
        self.other = await self.client_of(OTHER)
        return self

    async def close(self) -> None:
        await self.client.aclose()
        await self.other.aclose()
        await self.journal.close()
        self.database.close()

    async def client_of(self, account_id: str) -> httpx.AsyncClient:
        key = await self.accounts.create(name="ann", account_id=account_id)
        headers = {"authorization": f"Bearer {key}"}
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://host/v1", headers=headers)

    def serve(self, *, key_id: str | None = None, **changes: Any) -> Receipt:
        """One job, asked by this key, a second after the one before."""
        self.market.now_ms += 1000
        self.node.quote()
        awarded = self.market.open_job(**changes)
        self.journal.records[awarded.request_id] = JobRecord(b"s" * 32, [awarded.transcript], key_id=key_id)
        return self.market.settle(awarded, self.node)

    def days_pass(self, days: int) -> None:
        self.market.now_ms += days * DAY_MS

    async def take(self) -> None:
        """Store what the market wrote so far."""
        for index in range(self.journal.size, len(self.market.leaves)):
            self.journal.append(index, self.market.leaves[index])
        await self.journal.flush()

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def change(self, change: Update | Delete) -> None:
        await self.database.write(lambda connection: connection.execute(change))

    async def rows(self) -> list[dict[str, Any]]:
        query = select(RECEIPTS).order_by(RECEIPTS.c.leaf_index)
        return [row._asdict() for row in await self.database.read(lambda found: found.execute(query).all())]


def sums(receipts: list[Receipt]) -> tuple[int, int, int, int]:
    """Input tokens, output tokens, requests, charge in micro-USDC."""
    return (
        sum(one.prompt_tokens for one in receipts),
        sum(one.completion_tokens for one in receipts),
        len(receipts),
        sum(parse_usdc(one.charge_amount) for one in receipts),
    )


def told(result: dict[str, Any]) -> tuple[int, int, int, int]:
    assert parse_usdc(result["charge"]) == result["charge_micro_usdc"]
    names = ("input_tokens", "output_tokens", "num_model_requests", "charge_micro_usdc")
    return tuple(result[name] for name in names)
