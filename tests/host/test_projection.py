"""What the store projects from a market's leaves: credit, charges, nodes, statements, suspensions and orders."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Table, select
from tests.enclave.market import ACCOUNT, CREDIT, ORIGIN, Market, Node, signed_order

from pinaivu_enclave.core.commands import Tick
from pinaivu_host.store.accounts import Accounts
from pinaivu_host.store.database import Database
from pinaivu_host.store.journal import Journal
from pinaivu_host.store.leaf_rows import JobRecord
from pinaivu_host.store.orders import Orders
from pinaivu_host.store.schema import NODES, ORDERS, RECEIPTS, STATEMENTS, SUSPENSIONS, TRANSCRIPTS
from pinaivu_shared.canonical import encode
from pinaivu_shared.ids import digest_of
from pinaivu_shared.ledger import customer_account, payable_account
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.terms import Deposit, Payout
from pinaivu_shared.wire import link

pytestmark = [pytest.mark.anyio, pytest.mark.every_database]
STRANGER = "acct_" + "b" * 32


class Store:
    """A database with one account, and a journal that is fed a market's leaves."""

    def __init__(self, database_url: str) -> None:
        self.database = Database(database_url)
        self.journal = Journal(self.database)
        self.accounts = Accounts(self.database)

    async def take(self, market: Market) -> None:
        """Store what is new."""
        for index in range(self.journal.size, len(market.leaves)):
            self.journal.append(index, market.leaves[index])
        await self.journal.flush()

    async def rows(self, table: Table) -> list[dict[str, Any]]:
        rows = await self.database.read(lambda connection: connection.execute(select(table)).all())
        return [row._asdict() for row in rows]

    async def credit(self) -> int:
        account = await self.accounts.account(ACCOUNT)
        assert account is not None
        return account.credit


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    found = Store(database_url)
    await found.journal.start()
    await found.accounts.create(name="ann", account_id=ACCOUNT)
    yield found
    await found.journal.close()
    found.database.close()


def served(market: Market) -> tuple[Node, Any]:
    """A node, and the receipt of a job it did."""
    node = Node(market, "a").register().quote()
    return node, market.settle(market.open_job(), node)


def credit(reference: str, amount: int) -> link.RecordOrder:
    """An order for a deposit."""
    order = Deposit(origin=ORIGIN, reference=reference, account=ACCOUNT, amount=amount, fund="deposits")
    return signed_order(order)


async def test_credit_is_what_was_deposited_less_what_was_charged(store: Store) -> None:
    market = Market()
    await store.take(market)
    assert await store.credit() == CREDIT
    _, receipt = served(market)
    market.deposit(5, fund="promotions")
    market.deposit(7, account=STRANGER)
    await store.take(market)
    charge = parse_usdc(receipt.charge_amount)
    assert charge > 0
    assert await store.credit() == CREDIT + 5 - charge
    assert await store.credit() == market.balances()[customer_account(ACCOUNT)]


async def test_a_receipt_has_its_owner_from_the_leaf_and_its_salt_from_the_gateway(store: Store) -> None:
    market = Market()
    node = Node(market, "a").register().quote()
    known, forgotten = market.open_job(), market.open_job()
    store.journal.records[known.request_id] = JobRecord(b"s" * 32, [known.transcript])
    receipts = {one.request_id: one for one in (market.settle(known, node), market.settle(forgotten, node))}
    await store.take(market)
    rows = {row["request_id"]: row for row in await store.rows(RECEIPTS)}
    for request_id, receipt in receipts.items():
        row = rows[request_id]
        assert row["account_id"] == ACCOUNT
        assert row["payment_micro_usdc"] == parse_usdc(receipt.payment_amount) > 0
        assert row["charge_micro_usdc"] == parse_usdc(receipt.charge_amount) > row["payment_micro_usdc"]
    assert (rows[known.request_id]["salt"], rows[forgotten.request_id]["salt"]) == (b"s" * 32, None)
    assert [row["digest"] for row in await store.rows(TRANSCRIPTS)] == [digest_of(known.transcript)]


async def test_a_node_has_its_newest_operator_and_its_first_registration(store: Store) -> None:
    market = Market()
    node = Node(market, "a", operator="first").register()
    first_ms = market.now_ms
    market.now_ms += 1000
    node.operator = "second"
    node.register()
    await store.take(market)
    (row,) = await store.rows(NODES)
    assert (row["node_id"], row["registered_ms"]) == (node.node_id, first_ms)
    assert row["operator"].startswith("second@")


async def test_statements_and_payouts_are_there_with_their_leaves(store: Store) -> None:
    market = Market()
    node, receipt = served(market)
    market.acknowledge()
    market.now_ms += market.configuration.nodes.statement_period_ms
    market.apply(Tick())
    payment = parse_usdc(receipt.payment_amount)
    (stated,) = [place for place, leaf in enumerate(market.leaves) if b'"type":"statement"' in leaf]
    paid = market.pay_out(node.node_id, payment)
    await store.take(market)
    (statement,) = await store.rows(STATEMENTS)
    assert (statement["node_id"], statement["number"], statement["leaf_index"]) == (node.node_id, 1, stated)
    assert (statement["amount_micro_usdc"], statement["payable_micro_usdc"]) == (payment, payment)
    assert statement["period_start_ms"] < statement["period_end_ms"] <= market.now_ms
    orders = {row["leaf_index"]: row for row in await store.rows(ORDERS)}
    assert orders[paid.index]["reference"] == f"payout-{paid.index}"
    assert market.balances()[payable_account(node.node_id)] == 0


async def test_a_suspension_is_there_with_its_reason(store: Store) -> None:
    market = Market()
    node = Node(market, "a").register().quote()
    awarded = market.open_job()
    market.settle(awarded, node)
    other = node.proof(awarded, completion_tokens=73)
    market.apply(link.ReportProof(awarded.request_id, other))
    await store.take(market)
    (row,) = await store.rows(SUSPENSIONS)
    assert (row["node_id"], row["reason"], row["request_id"]) == (
        node.node_id,
        "conflicting_proofs",
        awarded.request_id,
    )
    assert row["until_ms"] == row["suspended_ms"] + market.configuration.nodes.suspension_ms


async def test_an_order_that_waits_is_recorded_by_its_own_leaf_only(store: Store) -> None:
    market = Market()
    orders = Orders(store.database)
    ours, taken = credit("ours", 1).order, credit("taken", 1).order
    await orders.add(ours)
    await orders.add(taken)
    recorded = market.apply(link.RecordOrder(ours))
    market.apply(credit("taken", 2))
    await store.take(market)
    assert (await orders.find("ours")).leaf_index == recorded.index
    assert (await orders.find("taken")).state == "pending"
    assert await store.credit() == CREDIT + 3


async def test_the_orders_of_a_log_are_there_where_the_table_was_lost(store: Store) -> None:
    market = Market()
    node, _ = served(market)
    market.acknowledge()
    market.now_ms += market.configuration.nodes.statement_period_ms
    market.apply(Tick())
    market.pay_out(node.node_id, 1)
    await store.take(market)
    found = [one.order for one in await Orders(store.database).newest()]
    assert {type(order) for order in found} == {Deposit, Payout}
    assert all(encode(order) in b"".join(market.leaves) for order in found)
