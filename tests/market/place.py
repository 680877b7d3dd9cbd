"""A market of real programs: host, enclave (simulated platform), KMS and one honest node, with short deadlines."""

import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import trio

from pinaivu_enclave.core.market_state import MarketState
from pinaivu_host.store.engine import FILE_NAME
from pinaivu_node.keys import load_identity
from pinaivu_shared.leaves import Leaf, SuspensionLeaf, parse_leaf
from pinaivu_shared.ledger import FEES, node_account, payable_account
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.quality import STEP_BPS
from pinaivu_shared.receipt import Receipt
from pinaivu_simulator.market import Periods
from pinaivu_simulator.network import Network, NetworkPlan, running_network
from pinaivu_simulator.ports import free_port

SHORT: Final = Periods(first_token_ms=1500, duration_ms=3500, suspension_ms=3000)
FEE_BPS: Final = 500
QUESTION: Final = "one two three four five six seven eight nine ten " * 4


class Place:
    """A running market. What it says of the past it reads from the log alone."""

    def __init__(self, network: Network) -> None:
        self.base_url, self.folder = network.base_url, network.data.folder
        self.trust = network.data.trust
        self.honest = load_identity(network.data.node(1))
        key = network.data.api_key_file.read_text().strip()
        self._client = httpx.Client(
            base_url=network.base_url, headers={"authorization": f"Bearer {key}"}, timeout=60, trust_env=False
        )

    def close(self) -> None:
        self._client.close()

    def ask(
        self, *, content: str = QUESTION, max_tokens: int = 1000, stream: bool = False, stop: str | None = None
    ) -> httpx.Response:
        """One chat completion, whatever comes of it."""
        messages = [{"role": "user", "content": content}]
        body = {"model": "echo", "messages": messages, "max_tokens": max_tokens, "stream": stream, "stop": stop}
        return self._client.post("/chat/completions", json=body)

    def receipt(self, answer: httpx.Response) -> Receipt:
        """The receipt of an answer; it may still be on its way into the log."""
        request_id = answer.headers["x-request-id"]
        while True:
            found = [one for one in self.receipts() if one.request_id == request_id]
            if found:
                return found[0]
            time.sleep(0.05)

    def bundle(self, receipt: Receipt) -> bytes:
        """What its owner can have to verify a receipt."""
        return self._client.get(f"/receipts/{receipt.request_id}/bundle").raise_for_status().content

    def leaves(self) -> list[Leaf]:
        """The whole log, as the host stored it."""
        uri = f"file:{self.folder / 'host' / FILE_NAME}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            rows = database.execute("SELECT leaf FROM leaves ORDER BY leaf_index").fetchall()
        return [parse_leaf(leaf) for (leaf,) in rows]

    def receipts(self) -> list[Receipt]:
        return receipts_in(self.leaves())

    def suspensions(self, node_id: str) -> list[SuspensionLeaf]:
        return [leaf for leaf in self.leaves() if isinstance(leaf, SuspensionLeaf) and leaf.node_id == node_id]

    def state(self) -> MarketState:
        return folded(self.leaves())

    def until_ready(self, nodes: int = 1) -> None:
        """Return once so many nodes have a quote standing."""
        while True:
            answer = self._client.get(self.base_url.removesuffix("/v1") + "/readyz")
            if answer.status_code == httpx.codes.OK and answer.json()["nodes"] >= nodes:
                return
            time.sleep(0.05)

    def check_honest_node(self) -> None:
        """Nothing that a cheat did is held against the honest node."""
        node_id, leaves = self.honest.node_id, self.leaves()
        for receipt in receipts_in(leaves):
            assert node_id not in {failed.node_id for failed in receipt.failed_attempts}, receipt
            assert receipt.node_id != node_id or receipt.outcome == "completed", receipt
        state = folded(leaves)
        assert state.quality.standing(node_id, state.terms).quality_bps >= state.terms.prior_bps

    def check_quality(self) -> None:
        """No receipt moved anybody's quality further than a step."""
        state = MarketState()
        for leaf in self.leaves():
            before = {node: state.quality.standing(node, state.terms).quality_bps for node in state.nodes}
            state.fold(leaf)
            if isinstance(leaf, Receipt):
                for node, quality_bps in before.items():
                    moved = state.quality.standing(node, state.terms).quality_bps - quality_bps
                    assert abs(moved) <= STEP_BPS, (leaf, node)

    def check_books(self) -> None:
        """All accounts sum to zero, and hold what the receipts say: each node its payments, the market its fee."""
        leaves = self.leaves()
        ledger = folded(leaves).ledger
        assert sum(ledger.posted().values()) == 0
        earned, fees = Counter[str](), 0
        for receipt in receipts_in(leaves):
            paid, charged = parse_usdc(receipt.payment_amount), parse_usdc(receipt.charge_amount)
            assert charged == paid + -(-paid * FEE_BPS // 10_000)
            earned[receipt.node_id] += paid
            fees += charged - paid
        assert fees == ledger.balance(FEES)
        for node_id, amount in earned.items():
            assert amount == ledger.balance(node_account(node_id)) + ledger.balance(payable_account(node_id))


def receipts_in(leaves: Iterable[Leaf]) -> list[Receipt]:
    return [leaf for leaf in leaves if isinstance(leaf, Receipt)]


def folded(leaves: Iterable[Leaf]) -> MarketState:
    """What a log adds up to."""
    state = MarketState()
    for leaf in leaves:
        state.fold(leaf)
    return state


@contextmanager
def market(folder: Path, *, sockets: Path | None = None, link: str = "enclave", nodes: int = 1) -> Iterator[Place]:
    """A market on `folder`, ended in order when the block is left."""
    plan = NetworkPlan(
        port=free_port(),
        folder=folder,
        nodes=nodes,
        engine="echo",
        log_level="error",
        periods=SHORT,
        sockets=sockets,
        link=link,
    )
    up: queue.SimpleQueue[tuple[Network, trio.lowlevel.TrioToken, trio.Event] | BaseException] = queue.SimpleQueue()
    thread = threading.Thread(target=partial(_run, plan, up))
    thread.start()
    started = up.get()
    if isinstance(started, BaseException):
        thread.join()
        raise started
    network, token, end = started
    place = Place(network)
    try:
        yield place
    finally:
        place.close()
        token.run_sync_soon(end.set)
        thread.join()


def _run(plan: NetworkPlan, up: "queue.SimpleQueue[Any]") -> None:
    async def run() -> None:
        end = trio.Event()
        async with running_network(plan) as network:
            up.put((network, trio.lowlevel.current_trio_token(), end))
            await end.wait()

    try:
        trio.run(run)
    except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
        up.put(error)
