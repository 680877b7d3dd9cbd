"""The host put together: KMS bridge, store, journal, link, nodes, gateway; started in that order, ended in reverse."""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.routing import BaseRoute

from pinaivu_host.capacity import Capacity
from pinaivu_host.gateway.admin.accounts import AdminAccounts
from pinaivu_host.gateway.admin.keys import AdminKeys
from pinaivu_host.gateway.admin.orders import AdminOrders
from pinaivu_host.gateway.app import Gateway, route, websocket_route
from pinaivu_host.gateway.asking import DEFAULT_BODY_BYTES_MAX, Asking
from pinaivu_host.gateway.attestation import Attestation
from pinaivu_host.gateway.cors import Cors
from pinaivu_host.gateway.endpoints import READERS
from pinaivu_host.gateway.health import Health
from pinaivu_host.gateway.idempotency import Idempotency
from pinaivu_host.gateway.jobs import LocalJobs
from pinaivu_host.gateway.market import Market
from pinaivu_host.gateway.models import Models
from pinaivu_host.gateway.nodes import Nodes
from pinaivu_host.gateway.openapi.document import OpenApiDocument
from pinaivu_host.gateway.pricing import Pricing
from pinaivu_host.gateway.rate_limits import make_rate_limits
from pinaivu_host.gateway.receipt_list import ReceiptList
from pinaivu_host.gateway.receipts import Receipts
from pinaivu_host.gateway.recount import NO_RECOUNTS, Recounter
from pinaivu_host.gateway.scrape import Scrape
from pinaivu_host.gateway.transcripts import Transcripts
from pinaivu_host.gateway.usage import UsageReport
from pinaivu_host.kms_bridge import KmsBridge
from pinaivu_host.kms_signing import FindCredentials, find_with_boto3
from pinaivu_host.link import EnclaveLink
from pinaivu_host.link_address import LinkAddress
from pinaivu_host.listening_address import ListeningAddress
from pinaivu_host.metrics import Metrics
from pinaivu_host.node_connections import NodeConnections
from pinaivu_host.nodes import NodeEndpoint
from pinaivu_host.operator_orders import OperatorKey
from pinaivu_host.outbox import Outbox
from pinaivu_host.store.accounts import Accounts
from pinaivu_host.store.api_keys import ApiKeys
from pinaivu_host.store.database import Database
from pinaivu_host.store.evidence import EvidenceStore
from pinaivu_host.store.idempotency import KeyStore
from pinaivu_host.store.journal import Journal
from pinaivu_host.store.models import FirstQuotes
from pinaivu_host.store.node_records import NodeRecords
from pinaivu_host.store.orders import Orders
from pinaivu_host.store.usage import Usage
from pinaivu_host.store.vault import SealedVault
from pinaivu_shared.configuration import parse_configuration
from pinaivu_shared.wire.node import NODE_PATH

logger = logging.getLogger(__name__)
NEW_ENCLAVE_CLOSE: Final = 1012
"""WebSocket "service restart": the node comes back and registers with the new enclave."""

PRIVATE_PATHS: Final = ("/admin/", "/metrics")
"""The operator's own, which the socket for nodes does not have."""

CUT_LIMIT_S: Final = 10.0
"""How long a job that was cut short may take to be settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """What the operator decides. `configuration` is handed to the enclave as it is.

    `kms_listen` is where the enclave asks for KMS; `kms_connect` is dialled in place of the configured endpoint.
    """

    enclave: LinkAddress
    database_url: str
    configuration: bytes
    kms_listen: ListeningAddress
    kms_connect: tuple[str, int] | None = None
    find_credentials: FindCredentials = find_with_boto3
    admin_key: str | None = None
    operator_key: Ed25519PrivateKey | None = None
    max_body_bytes: int = DEFAULT_BODY_BYTES_MAX
    queue_ms: int = 5000
    queue_max: int = 1024
    recounter: Recounter = NO_RECOUNTS
    drain_ms: int = 25_000
    cors_origins: tuple[str, ...] = ()


class Host:
    """Make it inside the event loop that runs it.

    CallerError where it cannot listen for the enclave, or has another operator's key than the configuration names.
    """

    def __init__(self, settings: HostSettings) -> None:
        configuration = parse_configuration(settings.configuration)
        self.settings: Final = settings
        self._configuration = configuration
        key = settings.operator_key
        self.operator_key: Final = None if key is None else OperatorKey(key, configuration)
        self._bridge = KmsBridge(
            settings.kms_listen,
            configuration.kms,
            find_credentials=settings.find_credentials,
            connect_to=settings.kms_connect,
            enclave_cid=settings.enclave.cid,
        )
        self._database = Database(settings.database_url)
        self.journal: Final = Journal(self._database)
        self.nodes: Final = NodeConnections()
        self.link: Final = EnclaveLink(
            settings.enclave,
            journal=self.journal,
            vault=SealedVault(self._database, origin=configuration.origin),
            configuration=settings.configuration,
            on_new_enclave=lambda: self.nodes.close_all(NEW_ENCLAVE_CLOSE, "new_enclave"),
        )
        self.accounts: Final = Accounts(self._database)
        self.orders: Final = Orders(self._database)
        self.outbox: Final = Outbox(self.link, self.journal, self.orders)
        self.first_quotes: Final = FirstQuotes(self._database)
        self.market: Final = Market(
            link=self.link,
            journal=self.journal,
            nodes=self.nodes,
            capacity=Capacity(waiting_max=settings.queue_max),
            credit=Capacity(waiting_max=settings.queue_max),
            evidence=EvidenceStore(self._database),
            queue_s=settings.queue_ms / 1000,
            metrics=Metrics(terms.model for terms in configuration.models),
            limits=make_rate_limits(self._database, configuration, queue_ms=settings.queue_ms),
            context_lengths={terms.model: terms.context_length_max for terms in configuration.models},
            recounter=settings.recounter,
        )
        self.idempotency: Final = Idempotency(self.market, KeyStore(self._database))
        self.jobs: Final = LocalJobs(self.market, self.idempotency)
        headers_for = self.market.limits.headers
        routes, metrics, cors = self._routes(), self.market.metrics, Cors(settings.cors_origins)
        self.app: Final = Gateway(routes, metrics, cors, headers_for)
        public = [one for one in routes if not getattr(one, "path", "").startswith(PRIVATE_PATHS)]
        self.node_app: Final = Gateway(public, metrics, cors, headers_for)
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to answer the enclave's KMS requests, to write leaves, to look for it and to send it orders."""
        self._bridge.start()
        await self.journal.start()
        await self.first_quotes.load()
        await self.idempotency.start()
        for name, work in (("the enclave link", self.link.run()), ("the outbox", self.outbox.run())):
            task = asyncio.create_task(work, name=name)
            task.add_done_callback(log_end)
            self._running.append(task)

    async def drain(self) -> None:
        """Take no new jobs; let the running ones end, but not for longer than the settings say."""
        self.market.draining = True
        await self.market.jobs.ended(self.settings.drain_ms / 1000)
        self.market.jobs.leave_all()
        await self.market.jobs.ended(CUT_LIMIT_S)

    async def stop(self) -> None:
        """Drop the link and write what was pushed until now."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._bridge.stop()
        await self.idempotency.stop()
        await self.accounts.uses.written()
        await self.market.limits.close()
        await self.journal.close()
        self._database.close()

    def _routes(self) -> list[BaseRoute]:
        node_endpoint = NodeEndpoint(
            link=self.link,
            connections=self.nodes,
            capacity=self.market.capacity,
            first_quotes=self.first_quotes,
            evidence=self.market.evidence,
        )
        return [
            *self._account_routes(),
            *self._evidence_routes(),
            *self._operator_routes(),
            websocket_route(NODE_PATH, node_endpoint.serve),
        ]

    def _account_routes(self) -> list[BaseRoute]:
        """What needs an account's key, and the prices."""
        market = self.market
        asking = Asking(self.jobs, self.accounts, market.metrics, max_body_bytes=self.settings.max_body_bytes)
        pricing = Pricing(self._configuration)
        models = Models(self.nodes, self.first_quotes, self.accounts, pricing, market.context_lengths)
        usage = Usage(self._database)
        receipts = Receipts(market.evidence, self.journal, self.accounts)
        return [
            *(route(path, "POST", partial(asking.serve, read)) for path, read in READERS.items()),
            route("/v1/models", "GET", models.list),
            route("/v1/models/{model:path}", "GET", models.one),
            route("/v1/pricing", "GET", pricing.list),
            route("/v1/usage", "GET", UsageReport(usage, self.accounts).report),
            route("/v1/receipts", "GET", ReceiptList(usage, self.accounts).list),
            route("/v1/receipts/{request_id}", "GET", receipts.receipt),
            route("/v1/receipts/{request_id}/bundle", "GET", receipts.bundle),
        ]

    def _evidence_routes(self) -> list[BaseRoute]:
        """What is for everybody."""
        evidence, health = self.market.evidence, Health(self.market)
        nodes = Nodes(NodeRecords(self._database), evidence, self.journal)
        return [
            route("/v1/transcripts/{digest}", "GET", Transcripts(evidence).transcript),
            route("/v1/nodes/{node_id}", "GET", nodes.node),
            route("/v1/nodes/{node_id}/statements", "GET", nodes.statements),
            route("/v1/nodes/{node_id}/statements/{number}", "GET", nodes.statement),
            route("/v1/attestation", "GET", Attestation(self.link).attest),
            route("/openapi.json", "GET", OpenApiDocument().document),
            route("/healthz", "GET", health.alive),
            route("/readyz", "GET", health.ready),
        ]

    def _operator_routes(self) -> list[BaseRoute]:
        """What needs the admin key."""
        admin_key = self.settings.admin_key
        orders = AdminOrders(self.orders, self.outbox, self._configuration, key=self.operator_key, admin_key=admin_key)
        accounts = AdminAccounts(self.accounts, orders, self.link, admin_key=admin_key)
        keys = AdminKeys(ApiKeys(self._database), self.accounts, admin_key=admin_key)
        return [
            route("/metrics", "GET", Scrape(self.market, self.orders, admin_key=admin_key).metrics),
            route("/admin/v1/accounts", "POST", accounts.create_account),
            route("/admin/v1/accounts", "GET", accounts.list),
            route("/admin/v1/accounts/{account_id}", "GET", accounts.account),
            route("/admin/v1/accounts/{account_id}/deposits", "POST", accounts.deposit),
            route("/admin/v1/accounts/{account_id}/keys", "POST", keys.create),
            route("/admin/v1/accounts/{account_id}/keys", "GET", keys.list),
            route("/admin/v1/keys/{key_id}", "PATCH", keys.change),
            route("/admin/v1/keys/{key_id}", "DELETE", keys.revoke),
            route("/admin/v1/payouts", "POST", orders.pay_out),
            route("/admin/v1/orders", "GET", orders.list),
            route("/admin/v1/orders", "POST", orders.hand_in),
        ]


def log_end(task: asyncio.Task[None]) -> None:
    """Callback of tasks that should not end by themselves."""
    if not task.cancelled() and task.exception() is not None:
        logger.error("%s has died", task.get_name(), exc_info=task.exception())
