"""Several workers at one host: whatever a caller could tell of one process, it can tell of several."""

import asyncio
import re
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.host.fake_enclave import FakeEnclave, trust
from tests.host.fake_node import FakeNode, Gate, Offered, echoing
from tests.host.program import create_key, free_port, served
from tests.host.town import CONFIGURATION, request

from pinaivu_host.cli import host
from pinaivu_shared.bundle import parse_bundle, verify_bundle
from pinaivu_shared.canonical import encode
from pinaivu_shared.sse import data_events
from pinaivu_shared.wire.link import SettleJob

pytestmark = pytest.mark.anyio
WORKERS = 2
ADMIN_KEY = "the-admin-key-of-the-tests"
ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}


class Place:
    """A serving host with workers, and a node. Every request comes over a connection of its own: to any worker."""

    def __init__(
        self, process: Process, ports: tuple[int, int], key: str, node: FakeNode, enclave: FakeEnclave
    ) -> None:
        self.process, self.key, self.node, self.enclave = process, key, node, enclave
        self.url, self.node_url = (f"http://127.0.0.1:{port}" for port in ports)

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {options.pop('key', self.key)}"} | options.pop("headers", {})
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            return await client.request(method, self.url + path, headers=headers, **options)

    async def chat(self, **fields: Any) -> httpx.Response:
        options = {name: fields.pop(name) for name in ("key", "headers") if name in fields}
        return await self.ask("POST", "/v1/chat/completions", json=request(**fields), **options)

    def settled(self, request_id: str) -> list[SettleJob]:
        """What the enclave was told of the end of this job."""
        return [job for job in self.enclave.all_of(SettleJob) if job.request_id == request_id]

    def workers(self) -> set[int]:
        """Process ids."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return {int(pid) for pid in listed.split()}


def counted_as(exposition: str, route: str, status: str) -> int:
    """How many requests the host says were answered so, whichever worker did it."""
    found = re.search(rf'^\w+requests_total{{route="{route}",status="{status}"}} (\S+)$', exposition, re.MULTILINE)
    return int(float(found[1])) if found else 0


@asynccontextmanager
async def several(folder: Path) -> AsyncIterator[Place]:
    key = await asyncio.to_thread(create_key, folder)
    found = FakeEnclave(folder / "enclave.sock")
    await found.start()
    port, node_port = free_port(), free_port()
    (folder / "admin.key").touch(mode=0o600)
    (folder / "admin.key").write_text(ADMIN_KEY + "\n", encoding="ascii")
    flags = ("--workers", str(WORKERS), "--node-listen", f"127.0.0.1:{node_port}")
    async with served(folder, port, *flags, "--admin-key-file", str(folder / "admin.key")) as process:
        await found.credited()
        node = await FakeNode(node_port, echoing("Hel", "lo")).start()
        yield Place(process, (port, node_port), key, node, found)
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        await node.gone()
    await found.stop()


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """One for the tests that end nothing of it."""
    folder = tmp_path_factory.mktemp("workers")
    async with several(folder) as found:
        yield found


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Place]:
    """One for a test that ends some of it."""
    async with several(tmp_path) as found:
        yield found


async def test_answers_receipts_and_lists_are_those_of_one_process(place: Place) -> None:
    place.node.script = echoing("Hel", "lo")
    answer = await place.chat()
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"
    request_id = answer.json()["request_id"]
    assert answer.headers["x-request-id"] == request_id
    raw = (await place.ask("GET", f"/v1/receipts/{request_id}/bundle")).content
    choices = answer.json()["choices"]
    verified = verify_bundle(parse_bundle(raw), trust(CONFIGURATION.origin), request=request(), choices=choices)
    assert verified.opened == ("request", "forwarded", "response")
    streamed = (await place.chat(stream=True, stream_options={"include_usage": True})).text
    assert streamed.endswith("data: [DONE]\n\n")
    told = "".join(one["choices"][0]["delta"].get("content", "") for one in data_events(streamed) if one["choices"])
    assert told == "Hello"
    models = (await place.ask("GET", "/v1/models?x=%2F")).json()
    assert {one["id"] for one in models["data"]} == {"m"}
    assert (await place.ask("POST", "/v1/embeddings", json={"model": "m", "input": "a"})).status_code == 502
    for wrong, status in ((place.ask("GET", "/nothing"), 404), (place.ask("GET", "/v1/chat/completions"), 405)):
        refused = await wrong
        assert (refused.status_code, set(refused.json())) == (status, {"error", "request_id"})
    assert (await place.chat(key="sk-pnv-" + "x" * 48)).status_code == 401
    for private in ("/metrics", "/admin/v1/accounts"):
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(place.node_url + private, headers=ADMIN)).status_code == 404
        assert (await place.ask("GET", private, headers=ADMIN)).status_code == 200
    counted = (await place.ask("GET", "/metrics", headers=ADMIN)).text
    assert counted_as(counted, "/v1/chat/completions", "401") == 1
    assert counted_as(counted, "/v1/embeddings", "502") == 1


async def test_one_idempotency_key_is_one_job_at_all_workers(place: Place) -> None:
    gate = Gate()
    place.node.script = gate.script
    asking = [asyncio.create_task(place.chat(headers={"idempotency-key": "k"})) for _ in range(12)]
    await gate.begun.wait()
    gate.proceed.set()
    answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(place.settled(answers[0].json()["request_id"])) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1


async def test_a_caller_who_leaves_ends_the_job(place: Place) -> None:
    seen = asyncio.Event()

    async def script(offered: Offered) -> None:
        await offered.accept()
        await offered.delta("one")
        await seen.wait()
        await offered.delta("two")
        await offered.cancelled.wait()
        await offered.prove("onetwo", outcome="cancelled", finish_reason=None)

    place.node.script = script
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        headers = {"authorization": f"Bearer {place.key}"}
        url = place.url + "/v1/chat/completions"
        async with client.stream("POST", url, headers=headers, json=request(stream=True)) as response:
            async for piece in response.aiter_text():
                if '"one"' in piece:
                    seen.set()
                elif '"two"' in piece:  # which is not sent before "one" was taken
                    break
        request_id = response.headers["x-request-id"]
    receipt = f"/v1/receipts/{request_id}"
    while (found := await place.ask("GET", receipt)).status_code == 404:
        pass
    assert (found.json()["outcome"], found.json()["reason"]) == ("cancelled", "client_disconnected")
    (settled,) = place.settled(request_id)
    assert settled.delivery.delivered_bytes >= len("one")


async def test_a_revoked_key_stops_at_every_worker(place: Place) -> None:
    place.node.script = echoing("a")
    (account,) = (await place.ask("GET", "/admin/v1/accounts", headers=ADMIN)).json()["data"]
    keys = f"/admin/v1/accounts/{account['account_id']}/keys"
    made = (await place.ask("POST", keys, headers=ADMIN, json={"name": "second"})).json()
    answers = await asyncio.gather(*(place.chat(key=made["api_key"]) for _ in range(4 * WORKERS)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await place.ask("DELETE", f"/admin/v1/keys/{made['key_id']}", headers=ADMIN)).status_code == 200
    in_a_row = 0
    while in_a_row < 4 * WORKERS:  # `key_cache.CACHE_S` says how long that may take
        refused = (await place.chat(key=made["api_key"])).status_code == 403
        in_a_row = in_a_row + 1 if refused else 0


async def test_a_keys_limit_holds_over_all_workers(place: Place) -> None:
    place.node.script = echoing("a")
    (account,) = (await place.ask("GET", "/admin/v1/accounts", headers=ADMIN)).json()["data"]
    terms = {"name": "five", "requests_per_minute": 5}
    keys = f"/admin/v1/accounts/{account['account_id']}/keys"
    made = (await place.ask("POST", keys, headers=ADMIN, json=terms)).json()
    answers = await asyncio.gather(*(place.chat(key=made["api_key"]) for _ in range(20)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert {answer.json()["error"]["code"] for answer in refused} == {"rate_limit_exceeded"}
    assert len(answers) - len(refused) in {5, 10}  # ten where a minute has just ended
    assert all(answer.headers["x-ratelimit-limit-requests"] == "5" for answer in answers)
    wrong = await place.chat(key=made["api_key"], temperature=3)
    assert (wrong.status_code, wrong.headers["x-ratelimit-remaining-requests"]) == (422, "0")
    far = await place.ask("POST", "/v1/completions", json={"model": "m", "prompt": "x" * 1_000_000})
    assert (far.json()["error"]["code"], far.json()["error"]["param"]) == ("context_length_exceeded", "prompt")


async def test_running_streams_end_before_the_workers_do(own: Place) -> None:
    gate = Gate()

    own.node.script = gate.script
    asking = asyncio.create_task(own.chat(stream=True))
    await gate.begun.wait()
    own.process.send_signal(signal.SIGTERM)
    while (await own.ask("GET", "/readyz")).status_code == 200:
        assert own.process.returncode is None
    refused = await own.chat()
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
    gate.proceed.set()
    assert (await asking).text.endswith("data: [DONE]\n\n")
    assert await own.process.wait() == 0


async def test_a_worker_that_dies_is_replaced_and_its_jobs_are_settled(own: Place) -> None:
    gate = Gate()
    own.node.script = gate.script
    asking = asyncio.create_task(own.chat(stream=True))
    await gate.begun.wait()
    before = own.workers()
    for pid in before:
        (await asyncio.create_subprocess_exec("kill", "-KILL", str(pid)))
    with pytest.raises(httpx.TransportError):
        await asking
    gate.proceed.set()
    assert (await own.chat()).status_code == 200
    assert not own.workers() & before
    assert next(job.outcome for job in own.enclave.all_of(SettleJob)) == "cancelled"


def test_workers_need_a_socket_for_nodes_and_it_needs_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configuration.json").write_bytes(encode(CONFIGURATION))
    needed = [
        "--enclave",
        "unix:x",
        "--configuration",
        str(tmp_path / "configuration.json"),
        "--data-dir",
        str(tmp_path),
    ]
    for flags in (["--workers", "2"], ["--node-listen", "127.0.0.1:0"]):
        assert host(["serve", *needed, *flags]) == 2
        assert "--node-listen goes with --workers" in capsys.readouterr().err
