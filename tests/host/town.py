"""A host on real sockets for each test: fake enclave, fake nodes, everything between them as it is deployed."""

import asyncio
import secrets
import socket
from pathlib import Path
from typing import Any

import httpx
from tests.host.fake_enclave import OPERATOR_KEY, FakeEnclave, signed_order
from tests.host.fake_node import FakeNode, Script, echoing

from pinaivu_host.edge import EdgeSettings
from pinaivu_host.host import Host, HostSettings
from pinaivu_host.http_server import GatewayServer, listen, make_server
from pinaivu_host.link_address import parse_address
from pinaivu_host.listening_address import parse_listening_address
from pinaivu_host.store.accounts import new_account_id
from pinaivu_host.store.api_keys import digest_of_key, key_id_of
from pinaivu_host.store.engine import sqlite_url
from pinaivu_shared.canonical import encode
from pinaivu_shared.configuration import Configuration, JobLimits, MeteringLimits, ModelTerms, NodeTerms
from pinaivu_shared.terms import Deposit
from pinaivu_shared.wire.link import OrderRecorded
from pinaivu_simulator.market import NO_KMS

ADMIN_KEY = "admin-key-of-the-tests"
CREDIT = 100_000_000
CONFIGURATION = Configuration(
    version=1,
    platform="simulator",
    origin="test.example/log",
    kms=NO_KMS,
    models=(
        ModelTerms(
            model="m",
            input_reserve_price=20_000,
            output_reserve_price=60_000,
            expected_completion_tokens=100,
            context_length_max=100_000,
        ),
        ModelTerms(
            model="a/b:1",
            input_reserve_price=1,
            output_reserve_price=1,
            expected_completion_tokens=100,
            context_length_max=100_000,
        ),
    ),
    fee_bps=1000,
    operator_key=OPERATOR_KEY.public_key().public_bytes_raw().hex(),
    nodes=NodeTerms(prior_bps=5000, probation_slots=1024, suspension_ms=60_000, statement_period_ms=60_000),
    jobs=JobLimits(attempts=3, first_token_ms=60_000, duration_ms=600_000),
    metering=MeteringLimits(completion_allowance=16, template_allowance=1024, recount_tolerance_bps=0),
    quote_lifetime_ms=600_000,
    max_nodes=100,
    max_open_jobs=10_000,
    witnesses=(),
    quorum=0,
)


class Town:
    """Everything of one test. `settings` and `edge` change the host's, before `open`."""

    def __init__(self, folder: Path, database_url: str | None = None) -> None:
        self.folder = folder
        self.database_url = database_url or sqlite_url(folder / "data")
        self.enclave = FakeEnclave(folder / "enclave.sock")
        self.configuration = CONFIGURATION
        self.settings: dict[str, Any] = {}
        self.edge = EdgeSettings()
        self.nodes: list[FakeNode] = []
        self.clients: list[httpx.AsyncClient] = []
        self.host: Host

    async def open(self) -> "Town":
        await self.enclave.start()
        await self.open_host()
        await self.host.link.wait_ready()
        self.account_id, self.key = await self.account("tests", credit=CREDIT)
        return self

    async def replace_enclave(self) -> FakeEnclave:
        """A new enclave at the old one's place."""
        await self.enclave.stop()
        self.enclave = FakeEnclave(self.enclave.path)
        await self.enclave.start()
        return self.enclave

    async def ended_link(self) -> FakeEnclave:
        """Wait until the link has given up; the enclave that it gave up."""
        await next(task for task in self.host._running if task.get_name() == "the enclave link")
        assert not self.host.link.ready
        assert (await self.client().get("/readyz")).status_code == 503
        return self.enclave

    async def account(self, name: str, *, credit: int) -> tuple[str, str]:
        """An account with this much credit (micro-USDC), and a key of it."""
        account_id = new_account_id()
        key = await self.host.accounts.create(name=name, account_id=account_id)
        order = deposit(account_id, credit, origin=self.configuration.origin)
        recorded = await self.host.link.call(signed_order(order), OrderRecorded)
        await self.host.journal.durable(recorded.index)
        return account_id, key

    async def open_host(self) -> None:
        defaults: dict[str, Any] = {"admin_key": ADMIN_KEY, "operator_key": OPERATOR_KEY, "queue_ms": 30_000}
        self.host = Host(
            HostSettings(
                enclave=parse_address(f"unix:{self.enclave.path}"),
                database_url=self.database_url,
                configuration=encode(self.configuration),
                kms_listen=parse_listening_address(f"unix:{self.folder / 'kms.sock'}"),
                **(defaults | self.settings),
            )
        )
        self.listener: socket.socket = listen("127.0.0.1", 0)
        self.port: int = self.listener.getsockname()[1]
        self.server: GatewayServer = make_server(self.host.app, self.edge)
        await self.host.start()
        self.serving = asyncio.create_task(self.server.serve(sockets=[self.listener]))

    async def close_host(self) -> None:
        self.server.should_exit = True
        await self.serving
        await self.host.stop()

    async def close(self) -> None:
        for client in self.clients:
            await client.aclose()
        for node in self.nodes:
            await node.stop()
        await self.close_host()
        await self.enclave.stop()

    async def node(self, script: Script | None = None, **settings: Any) -> FakeNode:
        """A node that asks for a little more than those before it, so that it wins when they do not answer."""
        settings = {"rank": len(self.nodes)} | settings
        node = await FakeNode(self.port, script or echoing("Hel", "lo"), **settings).start()
        self.nodes.append(node)
        return node

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"authorization": f"Bearer {key or self.key}"},
            timeout=60,
            trust_env=False,
        )
        self.clients.append(client)
        return client

    async def revoke(self, key: str) -> httpx.Response:
        """The operator takes a key out of use; where it was just used, hosts may take a second to notice."""
        return await self.client(ADMIN_KEY).delete(f"/admin/v1/keys/{key_id_of(digest_of_key(key))}")

    async def chat(self, **fields: Any) -> httpx.Response:
        return await self.client().post("/v1/chat/completions", json=request(**fields))


def deposit(account_id: str, amount: int, *, origin: str = CONFIGURATION.origin) -> Deposit:
    """An order that gives credit to an account."""
    return Deposit(origin=origin, reference=secrets.token_hex(8), account=account_id, amount=amount, fund="deposits")


def request(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
