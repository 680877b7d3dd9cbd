"""A whole network on one machine: KMS, enclave, host and nodes as processes, wired as in production."""

import contextlib
import json
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
import msgspec
import trio

from pinaivu_host.kms_policy import key_policy
from pinaivu_node.engines.access import EMBEDDED_TOKENIZER
from pinaivu_node.engines.choice import EchoChoice, EmbeddedChoice, UrlChoice, parse_engine
from pinaivu_node.engines.embedded_server import SLOT_CONTEXT
from pinaivu_shared.configuration import CONTEXT_LENGTH_MAX, KmsTerms
from pinaivu_shared.errors import CallerError
from pinaivu_shared.key_file import public_bytes
from pinaivu_shared.wire.ports import KMS_PORT
from pinaivu_simulator.data_directory import DataDirectory, write_private
from pinaivu_simulator.enrolment import enrol_simulated
from pinaivu_simulator.kms.folder import KmsFolder
from pinaivu_simulator.market import LONG_CONTEXT, Periods, market_configuration, node_prices
from pinaivu_simulator.nsm import ROLE, SIMULATED_MEASUREMENTS
from pinaivu_simulator.ports import free_port
from pinaivu_simulator.supervisor import Part, run_once

READY_SECONDS: Final = 120.0
OPENING_CREDIT: Final = "1000"


class NetworkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to start. `engine` is `embedded`, `echo[:settings]` or the URL of an OpenAI-protocol server.

    `sockets` is where the enclave's Unix sockets are, a new folder unless given. The host looks for its enclave at
    `enclave` there, or at `link` where somebody else listens between the two.
    """

    port: int
    folder: Path
    nodes: int
    engine: str
    slots: int | None = None
    log_level: str = "warning"
    periods: Periods = Periods()
    sockets: Path | None = None
    link: str = "enclave"


class Network:
    """A running network. `describe` is the line that `pinaivu dev --json` prints."""

    def __init__(self, plan: NetworkPlan, data: DataDirectory, models: list[str], sockets: Path, lock: int) -> None:
        self.plan, self.data, self.models = plan, data, models
        self.base_url = f"http://127.0.0.1:{plan.port}/v1"
        self._kms_port = free_port()
        self.kms = Part("kms", self._kms_arguments(), stop_seconds=5, held=lock)
        self.enclave = Part("enclave", self._enclave_arguments(sockets), stop_seconds=5, held=lock)
        self.host = Part(
            "host", self._host_arguments(sockets), stop_seconds=40, held=lock, environment=data.aws_environment()
        )
        self.nodes = [
            Part(f"node-{number}", self._node_arguments(number), stop_seconds=40, held=lock)
            for number in range(1, plan.nodes + 1)
        ]

    @property
    def service(self) -> list[Part]:
        """What nodes connect to: it is up before them."""
        return [self.kms, self.enclave, self.host]

    def describe(self) -> dict[str, object]:
        """Where it is, its keys, its trust file, its models and its processes."""
        return {
            "base_url": self.base_url,
            "api_key": self.data.api_key_file.read_text().strip(),
            "admin_key": self.data.admin_key(),
            "trust": str(self.data.trust.resolve()),
            "models": self.models,
            "pids": self.process_ids(),
        }

    def process_ids(self) -> dict[str, object]:
        """Of the processes now running; also kept in `pids.json` of the data directory."""
        return {
            "host": self.host.pid,
            "enclave": self.enclave.pid,
            "kms": self.kms.pid,
            "nodes": [node.pid for node in self.nodes],
        }

    def write_process_ids(self) -> None:
        """Keep `pids.json` true after a part was started again."""
        write_private(self.data.pids, json.dumps(self.process_ids()).encode())

    async def write_trust(self) -> None:
        """Write the network's trust file: judge a fresh attestation of the running enclave, as a user of it would."""
        nonce = secrets.token_bytes(32)
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await self._until_ok(client, f"{self.base_url}/attestation?nonce={nonce.hex()}")
        write_private(self.data.trust, enrol_simulated(answer.content, self.data.pki(), nonce))

    async def wait_until_ready(self) -> None:
        """Return once every node has a quote standing and credit is there; CallerError when that takes too long."""
        host = self.base_url.removesuffix("/v1")
        operator = {"authorization": f"Bearer {self.data.admin_key()}"}
        async with httpx.AsyncClient(trust_env=False, headers=operator) as client:
            await self._until_ok(client, f"{host}/readyz", lambda answer: answer.json()["nodes"] >= self.plan.nodes)
            await self._until_ok(client, f"{host}/admin/v1/orders", _none_waits)

    async def _until_ok(
        self, client: httpx.AsyncClient, url: str, is_enough: Callable[[httpx.Response], bool] = lambda _: True
    ) -> httpx.Response:
        with trio.move_on_after(READY_SECONDS):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    answer = await client.get(url)
                    if answer.status_code == httpx.codes.OK and is_enough(answer):
                        return answer
                await trio.sleep(0.05)
        raise CallerError(f"the network was not ready after {READY_SECONDS:.0f} s; its log above says why")

    def _kms_arguments(self) -> list[str]:
        return [
            "simulator", "kms", "--listen", f"127.0.0.1:{self._kms_port}", "--data-dir", str(self.data.folder),
            "--policy", str(self.data.kms_policy), "--log-level", self.plan.log_level,
        ]  # fmt: skip

    def _enclave_arguments(self, sockets: Path) -> list[str]:
        return [
            "simulator", "enclave", "--listen", f"{sockets}/enclave", "--parent", f"{sockets}/parent",
            "--data-dir", str(self.data.folder),
            "--log-level", self.plan.log_level,
        ]  # fmt: skip

    def _host_arguments(self, sockets: Path) -> list[str]:
        return [
            "host", "serve", "--listen", f"127.0.0.1:{self.plan.port}", "--enclave", f"unix:{sockets}/{self.plan.link}",
            "--kms-listen", f"unix:{sockets}/parent_{KMS_PORT}", "--kms-connect", f"127.0.0.1:{self._kms_port}",
            "--data-dir", str(self.data.host()), "--configuration", str(self.data.configuration),
            "--admin-key-file", str(self.data.admin_key_file), "--operator-key-file", str(self.data.operator_key_file),
            "--log-level", self.plan.log_level, *_tokenizers(self.plan.engine),
        ]  # fmt: skip

    def _node_arguments(self, number: int) -> list[str]:
        input_price, output_price = node_prices(number)
        slots = [] if self.plan.slots is None else ["--slots", str(self.plan.slots)]
        return [
            "node", "run", "--gateway", f"ws://127.0.0.1:{self.plan.port}", "--engine", self.plan.engine,
            "--trust", str(self.data.trust), "--data-dir", str(self.data.node(number)),
            "--operator", f"operator-{number}", "--input-price", str(input_price),
            "--output-price", str(output_price), "--log-level", self.plan.log_level, *slots,
        ]  # fmt: skip


@asynccontextmanager
async def running_network(plan: NetworkPlan) -> AsyncIterator[Network]:
    """A network that is ready, and ended in order (nodes, host, enclave, KMS) when the block is left."""
    data = DataDirectory(plan.folder)
    with data.in_use() as lock:
        _require_free(plan.port)
        async with _started(plan, data, lock) as network:
            yield network


@asynccontextmanager
async def _started(plan: NetworkPlan, data: DataDirectory, lock: int) -> AsyncIterator[Network]:
    models = await _models_of(plan.engine)
    _configure(data, models, plan)
    data.admin_key()
    await _keep_api_key(data)
    with tempfile.TemporaryDirectory(prefix="pinaivu-") as sockets:
        network = Network(plan, data, models, plan.sockets or Path(sockets), lock)
        async with trio.open_nursery() as nursery:
            for part in network.service:
                nursery.start_soon(part.supervise, network.write_process_ids)
            try:
                await network.write_trust()
                for node in network.nodes:
                    nursery.start_soon(node.supervise, network.write_process_ids)
                await network.wait_until_ready()
                yield network
            finally:
                with trio.CancelScope(shield=True):
                    await _stop(network)
                nursery.cancel_scope.cancel()


def _configure(data: DataDirectory, models: list[str], plan: NetworkPlan) -> None:
    """What an operator does before the first start: write the configuration, put the policy for it on the KMS key."""
    kms = KmsFolder(data.folder)
    terms = KmsTerms(key_arn=kms.key_arn, tls_root=kms.tls_root.hex())
    operator_key = public_bytes(data.operator_key())
    configuration = market_configuration(
        data.origin(),
        models,
        operator_key=operator_key,
        kms=terms,
        periods=plan.periods,
        context_length_max=context_of(plan.engine),
    )
    write_private(data.configuration, configuration)
    policy = key_policy(SIMULATED_MEASUREMENTS, configuration, role=ROLE, administrator=None)
    write_private(data.kms_policy, json.dumps(policy).encode())
    registers = {f"PCR{index}": value.hex() for index, value in SIMULATED_MEASUREMENTS.items()}
    write_private(data.pcrs, json.dumps({"Measurements": registers}).encode())
    kms.credentials  # noqa: B018 - made at first use, and the host needs them


def _none_waits(answer: httpx.Response) -> bool:
    """Whether every order of the operator is in the log or refused."""
    return all(order["state"] != "pending" for order in answer.json()["orders"])


def context_of(engine: str) -> int:
    """The context that the engine has, in tokens; one of the developer's own keeps whatever it has."""
    match parse_engine(engine):
        case EmbeddedChoice():
            return SLOT_CONTEXT
        case EchoChoice():
            return LONG_CONTEXT
        case UrlChoice():
            return CONTEXT_LENGTH_MAX


def _tokenizers(engine: str) -> list[str]:
    return ["--tokenizers", f"pinaivu-tiny={EMBEDDED_TOKENIZER}"] if engine == "embedded" else []


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CallerError(f"port {port} cannot be used: {error.strerror}") from error


async def _stop(network: Network) -> None:
    async with trio.open_nursery() as nursery:
        for node in network.nodes:
            nursery.start_soon(node.stop)
    for part in reversed(network.service):
        await part.stop()


async def _keep_api_key(data: DataDirectory) -> None:
    if not data.api_key_file.exists():
        printed = await run_once(
            [
                *("host", "create-key", "--create", "--data-dir", str(data.host())),
                *("--account", "developer", "--credit", OPENING_CREDIT),
                *("--operator-key-file", str(data.operator_key_file), "--configuration", str(data.configuration)),
            ]
        )
        write_private(data.api_key_file, printed.strip().encode())


async def _models_of(engine: str) -> list[str]:
    choice = parse_engine(engine)
    if isinstance(choice, EmbeddedChoice):
        return ["pinaivu-tiny"]
    if isinstance(choice, EchoChoice):
        return ["echo"]
    url = f"{choice.address}/v1/models"
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            answer = await client.get(url)
            answer.raise_for_status()
            models = [entry["id"] for entry in answer.json()["data"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise CallerError(f"engine {engine}: no model list at {url}: {error}") from error
    if not models:
        raise CallerError(f"engine {engine} offers no model")
    return models
