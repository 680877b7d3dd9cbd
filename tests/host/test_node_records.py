"""What the gateway says about nodes: the same sums as the enclave's ledger, and statements that verify offline."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.enclave.market import Market, Node
from tests.host.query_plan import plan_of
from tests.host.shape import check_shape
from tests.shared.evidence import make_evidence
from tests.shared.statements import PERIOD_MS, Stated

from pinaivu_enclave.core.commands import Tick
from pinaivu_host.gateway.app import Gateway, route
from pinaivu_host.gateway.cors import Cors
from pinaivu_host.gateway.nodes import Nodes
from pinaivu_host.metrics import Metrics
from pinaivu_host.store.database import Database
from pinaivu_host.store.evidence import EvidenceStore
from pinaivu_host.store.journal import Journal
from pinaivu_host.store.node_records import NodeRecords
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ledger import node_account, payable_account
from pinaivu_shared.money import format_usdc
from pinaivu_shared.statement import parse_statement, verify_statement
from pinaivu_shared.trust import parse_trust
from pinaivu_shared.wire import link

pytestmark = [pytest.mark.anyio, pytest.mark.every_database]
ABSENT = "node_" + "0" * 32


class Office:
    """A gateway with nothing but these endpoints, over a database with a market's leaves."""

    def __init__(self, database_url: str) -> None:
        self.database = Database(database_url)
        self.journal = Journal(self.database)
        nodes = Nodes(NodeRecords(self.database), EvidenceStore(self.database), self.journal)
        app = Gateway([
            route("/v1/nodes/{node_id}", "GET", nodes.node),
            route("/v1/nodes/{node_id}/statements", "GET", nodes.statements),
            route("/v1/nodes/{node_id}/statements/{number}", "GET", nodes.statement),
        ], Metrics(()), Cors())  # fmt: skip
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host/v1/nodes")

    async def take(self, market: Market) -> None:
        """Store what the market wrote so far."""
        for index in range(self.journal.size, len(market.leaves)):
            self.journal.append(index, market.leaves[index])
        self.journal.keep_checkpoint(len(market.leaves), market.checkpoint)
        await self.journal.flush()

    async def get(self, path: str) -> Any:
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    found = Office(database_url)
    await found.journal.start()
    yield found
    await found.client.aclose()
    await found.journal.close()
    found.database.close()


def end_period(market: Market) -> None:
    market.acknowledge()
    market.now_ms += PERIOD_MS
    market.apply(Tick())
    market.acknowledge()


async def check_sums(office: Office, market: Market, node: Node) -> dict[str, Any]:
    """The gateway's sums, once they are the enclave's."""
    await office.take(market)
    shown: dict[str, Any] = await office.get(f"/{node.node_id}")
    balances, paid_out = market.balances(), market.coordinator._state.paid_out.get(node.node_id, 0)
    payable = balances.get(payable_account(node.node_id), 0)
    assert shown["earned"] == format_usdc(balances.get(node_account(node.node_id), 0))
    assert shown["payable"] == format_usdc(payable)
    assert shown["paid_out"] == format_usdc(paid_out)
    assert shown["stated"] == format_usdc(payable + paid_out)
    return shown


async def test_the_sums_are_those_of_the_enclaves_ledger_at_every_step(office: Office) -> None:
    market = Market()
    node, other = Node(market, "cheap").register().quote(), Node(market, "dear").register().quote(21_000)
    assert (await check_sums(office, market, node))["statements"] == 0
    for number in (1, 2):
        for served in (node, node, node):
            awarded = market.open_job()
            assert awarded.node_id == served.node_id
            market.settle(awarded, served)
        await check_sums(office, market, node)
        end_period(market)
        node.quote()
        other.quote(21_000)
        assert (await check_sums(office, market, node))["statements"] == number
        market.pay_out(node.node_id, 3)
        await check_sums(office, market, node)
        market.settle(market.open_job(), node)
        market.deposit(7)
        market.pay_out(node.node_id, 1)
        shown = await check_sums(office, market, node)
        assert shown["earned"] != format_usdc(0) != shown["payable"]
    market.apply(link.WithdrawQuotes(node.session, ""))
    market.settle(market.open_job(), other)
    end_period(market)
    market.pay_out(other.node_id, 2)
    for one in (node, other):
        assert (await check_sums(office, market, one))["statements"]


async def test_summing_what_a_node_earned_looks_at_no_other_nodes_receipts(office: Office) -> None:
    """Anybody may ask."""
    query = "SELECT sum(payment_micro_usdc) FROM receipts WHERE node_id = '' AND leaf_index > 0"
    plan = "\n".join(await office.database.read(lambda connection: plan_of(connection, query)))
    assert re.search(
        r"SEARCH receipts USING INDEX receipts_of_node \(node_id=\? AND leaf_index>\?\)"
        r"|Index Scan using receipts_of_node on receipts\n +Index Cond: \(+node_id\)?.* AND \(leaf_index >",
        plan,
    ), plan


async def test_a_node_is_shown_with_its_operator(office: Office) -> None:
    market = Market()
    node = Node(market, "cheap", operator="alice").register()
    await office.take(market)
    shown = await office.get(f"/{node.node_id}")
    assert (shown["node_id"], shown["registered_ms"]) == (node.node_id, market.now_ms)
    assert shown["operator"].startswith("alice@")
    assert shown["suspension"] is None


async def test_a_suspension_is_shown_while_it_lasts(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    market = Market()
    node = Node(market, "cheap").register().quote()
    awarded = market.open_job()
    market.settle(awarded, node, proof=node.proof(awarded, completion_tokens=100_000))
    await office.take(market)
    until_ms = market.now_ms + market.configuration.nodes.suspension_ms
    monkeypatch.setattr("pinaivu_host.gateway.nodes.now_ms", lambda: until_ms - 1)
    suspension = (await office.get(f"/{node.node_id}"))["suspension"]
    assert (suspension["reason"], suspension["request_id"]) == ("usage_absurd", awarded.request_id)
    assert (suspension["suspended_ms"], suspension["until_ms"]) == (market.now_ms, until_ms)
    monkeypatch.setattr("pinaivu_host.gateway.nodes.now_ms", lambda: until_ms)
    assert (await office.get(f"/{node.node_id}"))["suspension"] is None


async def test_a_statement_comes_with_all_that_verifies_it(office: Office) -> None:
    stated = Stated()
    await office.take(stated.market)
    answer = await office.client.get(f"/{stated.node.node_id}/statements/1")
    trust = parse_trust(json.dumps(stated.trust).encode())
    verified = verify_statement(parse_statement(answer.content), trust)
    assert verified.statement == stated.leaf
    assert len(answer.json()["epochs"]) == len({receipt.attestation for receipt in verified.receipts}) == 2
    raised = answer.content.replace(f'"amount":{stated.leaf.amount}'.encode(), b'"amount":1000000')
    with pytest.raises(VerificationError):
        verify_statement(parse_statement(raised), trust)


async def test_a_statement_of_an_epoch_with_no_receipt_of_its_own_comes_with_that_epoch(office: Office) -> None:
    first = Market()
    trust = parse_trust(json.dumps(make_evidence(first).trust).encode())
    market = Market(stored=tuple(first.leaves), checkpoint=first.checkpoint)
    end_period(market)
    await office.take(market)
    (receipt,) = market.receipts()
    answer = await office.client.get(f"/{receipt.node_id}/statements/1")
    assert verify_statement(parse_statement(answer.content), trust).receipts == (receipt,)
    assert len(answer.json()["epochs"]) == 2


async def test_statements_are_listed_in_pages(office: Office) -> None:
    market = Market()
    node = Node(market, "cheap").register()
    for _ in range(3):
        market.settle((node.quote(), market.open_job())[1], node)
        end_period(market)
    await office.take(market)
    path = f"/{node.node_id}/statements"
    first = await office.get(f"{path}?limit=2")
    assert [one["number"] for one in first["data"]] == [1, 2]
    assert first["has_more"]
    rest = await office.get(f"{path}?limit=2&after=2")
    assert [one["number"] for one in rest["data"]] == [3]
    assert not rest["has_more"]
    assert set(rest["data"][0]) == {"number", "index", "amount", "payable", "period_start_ms", "period_end_ms"}
    assert rest["data"][0]["payable"] == (await office.get(f"/{node.node_id}"))["payable"]
    assert len((await office.get(path))["data"]) == 3
    assert await office.get(f"/{ABSENT}/statements") == {"object": "list", "data": [], "has_more": False}


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=1&limit=2", "after=-1", "after=x", "limit=%C2%B2",
     "after=99999999999999999999"],
)  # fmt: skip
async def test_a_page_that_makes_no_sense_is_refused(office: Office, query: str) -> None:
    body = check_shape(
        await office.client.get(f"/{ABSENT}/statements?{query}"), 400, "invalid_request_error", "invalid_request"
    )
    assert body["error"]["param"] == query.partition("=")[0]


@pytest.mark.parametrize(
    "path",
    ["", "/statements/1", "/statements/0", "/statements/-1", "/statements/x", "/statements/99999999999999999999"],
)
async def test_what_is_not_there_is_404(office: Office, path: str) -> None:
    for node_id in (ABSENT, "nonsense"):
        check_shape(await office.client.get(f"/{node_id}{path}"), 404, "invalid_request_error", "not_found")


async def test_a_statement_waits_for_a_checkpoint_but_not_for_ever(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinaivu_host.gateway.log_proof.CHECKPOINT_LIMIT_S", 0.05)
    stated = Stated()
    await office.take(stated.market)
    office.journal._checkpoint = None
    office.journal.keep_checkpoint(stated.leaf.index, stated.market.checkpoint)
    path = f"/{stated.node.node_id}/statements/1"
    check_shape(await office.client.get(path), 503, "server_error", "coordinator_unavailable")
    office.journal.keep_checkpoint(len(stated.market.leaves), stated.market.checkpoint)
    assert (await office.client.get(path)).status_code == 200
