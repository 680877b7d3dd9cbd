"""What the operator sees of the host without seeing a caller: metrics under the admin key, one log line per request."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError
from tests.docs.pages import DOCS, section
from tests.host.fake_node import Gate, Offered, endless
from tests.host.shape import check_shape
from tests.host.town import ADMIN_KEY, Town, request

from pinaivu_host.metrics import Metrics
from pinaivu_host.store.orders import Orders
from pinaivu_shared.logs import configure_logging

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
PROMPT = "a-prompt-nobody-may-read"
ANSWER = "an-answer-nobody-may-read"
OF_THE_TEST = re.compile(r"^\S+ \w+ (httpx|httpcore|websockets\.client)\b")
"""Lines of what the test itself connects with."""


async def scrape(town: Town) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = await town.client(ADMIN_KEY).get("/metrics")
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def value(town: Town, name: str, **labels: str) -> float:
    return (await scrape(town)).get((f"pinaivu_{name}", frozenset(labels.items())), 0.0)


def request_lines(caplog: pytest.LogCaptureFixture, route: str) -> list[dict[str, Any]]:
    """The log's lines of the requests for one route, which come after the answers."""
    lines = [vars(record)["kv"] for record in caplog.records if record.getMessage() == "request"]
    return [line for line in lines if line["route"] == route]


async def ended(caplog: pytest.LogCaptureFixture, route: str, *, count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many requests for this route are logged."""
    while len(request_lines(caplog, route)) < count:  # noqa: ASYNC110 - it is the log that is waited for
        await asyncio.sleep(0)
    return request_lines(caplog, route)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


async def test_metrics_are_for_the_operator_alone(town: Town) -> None:
    check_shape(await town.client().get("/metrics"), 401, "authentication_error", "invalid_api_key")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{town.port}", trust_env=False) as stranger:
        check_shape(await stranger.get("/metrics"), 401, "authentication_error", "missing_api_key")
    answer = await town.client(ADMIN_KEY).get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"


async def test_a_completed_job_is_counted_from_its_receipt(town: Town) -> None:
    await town.node()
    usage = (await town.chat()).json()["usage"]
    assert await value(town, "requests_total", route=CHAT, status="200") == 1
    assert await value(town, "request_duration_seconds_count", route=CHAT) == 1
    assert await value(town, "auctions_total", result="awarded") == 1
    assert await value(town, "jobs_total", outcome="completed", reason="none") == 1
    assert await value(town, "first_token_seconds_count", model="m") == 1
    assert await value(town, "tokens_total", model="m", kind="prompt") == usage["prompt_tokens"] > 0
    assert await value(town, "tokens_total", model="m", kind="completion") == usage["completion_tokens"] > 0


async def test_a_job_that_a_second_node_completes_is_one_job_and_one_failed_award(town: Town) -> None:
    async def leave(offered: Offered) -> None:
        await offered.decline("busy")

    await town.node(leave)
    await town.node()
    assert (await town.chat()).status_code == 200
    assert await value(town, "failed_awards_total", reason="busy") == 1
    assert await value(town, "auctions_total", result="awarded") == 1
    assert await value(town, "jobs_total", outcome="completed", reason="none") == 1


async def test_an_answer_given_again_for_its_idempotency_key_is_no_second_job(town: Town) -> None:
    await town.node()
    for _ in range(2):
        answer = await town.client().post(CHAT, json=request(), headers={"idempotency-key": "k"})
        assert answer.status_code == 200
    assert await value(town, "requests_total", route=CHAT, status="200") == 2
    assert await value(town, "jobs_total", outcome="completed", reason="none") == 1


async def test_what_is_refused_says_why_once_however_long_it_waited(closed_town: Town) -> None:
    closed_town.settings = {"queue_ms": 600}
    town = await closed_town.open()
    try:
        gate = Gate()
        assert (await town.chat(model="gpt-9")).status_code == 422
        assert (await town.chat()).status_code == 503
        await town.node(gate.script, slots=1)
        running = asyncio.create_task(town.chat())
        await gate.begun.wait()
        assert (await town.chat()).status_code == 503
        gate.proceed.set()
        assert (await running).status_code == 200
        for reason in ("unknown_model", "no_node", "no_free_slot", "awarded"):
            assert await value(town, "auctions_total", result=reason) == 1, reason
    finally:
        await town.close()


async def test_gauges_say_how_it_stands_when_somebody_looks(town: Town) -> None:
    gate = Gate()
    await town.node(gate.script, slots=1)
    running, waiting = (asyncio.create_task(town.chat()) for _ in range(2))
    await gate.begun.wait()
    while not town.host.market.capacity.waiting:  # noqa: ASYNC110 - it is the queue that is waited for
        await asyncio.sleep(0)
    seen = {name: await value(town, name) for name in ("nodes_connected", "nodes_offering", "enclave_link_ready")}
    assert seen == {"nodes_connected": 1, "nodes_offering": 1, "enclave_link_ready": 1}
    assert await value(town, "queued_requests", queue="slots") == 1
    assert await value(town, "queued_requests", queue="credit") == 0
    assert await value(town, "jobs_running") == 2
    assert await value(town, "requests_running") == 3  # the look itself is one
    gate.proceed.set()
    assert [one.status_code for one in await asyncio.gather(running, waiting)] == [200, 200]
    assert await value(town, "jobs_running") == 0
    assert await value(town, "journal_failed") == 0
    assert await value(town, "journal_backlog_leaves") == 0


async def test_orders_that_wait_are_counted_and_a_broken_database_hides_nothing_else(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await value(town, "orders_pending") == 0

    async def fail(_orders: Orders) -> int:
        raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    monkeypatch.setattr(Orders, "count_pending", fail)
    seen = await scrape(town)
    assert seen["pinaivu_orders_pending", frozenset()] != seen["pinaivu_orders_pending", frozenset()]
    assert seen["pinaivu_enclave_link_ready", frozenset()] == 1


async def test_callers_cannot_make_series(town: Town) -> None:
    await town.chat(model="gpt-9")
    client = town.client()
    for path in ("/nowhere", "/v1/receipts/req_nonsense", "/v1/models/gpt-9", "/v1/transcripts/nonsense"):
        assert (await client.get(path)).status_code == 404
    assert (await client.delete(CHAT)).status_code == 405
    labels = {pair for _, pairs in await scrape(town) for pair in pairs if pair[0] == "route"}
    assert labels == {
        ("route", path)
        for path in (
            CHAT,
            "unmatched",
            "/v1/receipts/{request_id}",
            "/v1/models/{model:path}",
            "/v1/transcripts/{digest}",
        )
    }
    text = (await town.client(ADMIN_KEY).get("/metrics")).text
    for hidden in ("gpt-9", "nonsense", "nowhere", "DELETE", town.account_id, town.key, "req_0"):
        assert hidden not in text


def test_reasons_and_models_that_are_on_no_list_are_other() -> None:
    metrics = Metrics(["m"])
    for reason in ("made_up_by_a_peer", "timeout", ""):
        metrics.award_failed(reason)
        metrics.refused(reason)
    assert metrics.model_label("m") == "m"
    assert metrics.model_label("m2") == "other"
    text = metrics.exposition().decode()
    assert set(re.findall(r'failed_awards_total\{reason="(\w+)"', text)) == {"other", "timeout", "none"}
    assert set(re.findall(r'auctions_total\{result="(\w+)"', text)) == {"other"}


def test_two_hosts_in_one_process_count_apart() -> None:
    first, second = Metrics(["m"]), Metrics(["m"])
    first.awarded()
    assert b'pinaivu_auctions_total{result="awarded"} 1.0' in first.exposition()
    assert b'pinaivu_auctions_total{result="awarded"}' not in second.exposition()


def test_the_page_for_operators_names_every_series_and_no_other() -> None:
    named = set(re.findall(r"`(pinaivu_[a-z_]+)", section(DOCS / "deploy.md", "What to watch")))
    assert named == Metrics(["m"]).names()


async def test_a_request_is_one_line_with_its_outcome(town: Town, log: pytest.LogCaptureFixture) -> None:
    await town.node()
    answer = await town.chat()
    (line,) = await ended(log, CHAT)
    assert list(line) == ["request_id", "client", "route", "status", "duration_ms", "model", "outcome"]
    assert (line["request_id"], line["status"]) == (answer.headers["x-request-id"], 200)
    assert (line["model"], line["outcome"]) == ("m", "completed")
    assert isinstance(line["duration_ms"], int)


async def test_a_stream_that_broke_has_status_200_and_says_so_as_its_outcome(
    town: Town, log: pytest.LogCaptureFixture
) -> None:
    heard = asyncio.Event()

    async def break_off(offered: Offered) -> None:
        await offered.accept()
        await offered.delta("begun")
        await heard.wait()
        await offered.decline("engine_unavailable")

    await town.node(break_off)
    async with town.client().stream("POST", CHAT, json=request(stream=True)) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        heard.set()
        assert "node_failed" in [line async for line in lines][-2]
    (line,) = await ended(log, CHAT)
    assert (line["status"], line["outcome"]) == (200, "node_failed")
    assert await value(town, "jobs_total", outcome="failed", reason="node_failed") == 1


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "k"}], ids=["plain", "keyed"])
async def test_the_line_says_that_the_caller_left(
    town: Town, log: pytest.LogCaptureFixture, headers: dict[str, str]
) -> None:
    await town.node(endless)
    async with town.client().stream("POST", CHAT, json=request(stream=True), headers=headers) as answer:
        await anext(answer.aiter_lines())
    (line,) = await ended(log, CHAT)
    assert (line["status"], line["outcome"]) == (200, "client_disconnected")


async def test_no_line_has_a_key_a_prompt_an_answer_or_an_accounts_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answer(offered: Offered) -> None:
        await offered.answer(ANSWER)

    said: Any = {"messages": [{"role": "user", "content": PROMPT}]}
    with logging_all():
        town = await Town(tmp_path).open()
        await town.node(answer)
        client = town.client()
        statuses = [
            (await town.chat(**said)).status_code,
            (await town.chat(**said, stream=True)).status_code,
            (await town.chat(**said, temperature=PROMPT)).status_code,
            (await town.chat(**said, model=PROMPT)).status_code,
            (await town.client("sk-pnv-" + "bad-key" * 6).post(CHAT, json=request(**said))).status_code,
            (await client.post(CHAT, content=f'{{"model": "{PROMPT}'.encode())).status_code,
            (await client.post(CHAT, json=request(**said), headers={"idempotency-key": PROMPT})).status_code,
            (await client.get(f"/{PROMPT}")).status_code,
        ]
        named = {"name": "Secret Customer", "credit": "1"}
        opened = await town.client(ADMIN_KEY).post("/admin/v1/accounts", json=named)
        await town.close()
    assert (statuses, opened.status_code) == ([200, 200, 422, 422, 401, 422, 200, 404], 200)
    lines = [line for line in capsys.readouterr().err.splitlines() if not OF_THE_TEST.search(line)]
    assert sum(' info pinaivu_host.gateway.access "request" ' in line for line in lines) == 9
    for hidden in (PROMPT, ANSWER, town.key, ADMIN_KEY, "bad-key", "Secret Customer", opened.json()["api_key"]):
        for form in (hidden, hidden[-8:].encode().hex(" ")):  # some libraries show the ends of what they carry
            assert not [line for line in lines if form in line], hidden


@contextlib.contextmanager
def logging_all() -> Iterator[None]:
    """The production format and settings at `debug`, on stderr."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    configure_logging("debug")
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.handlers = before[1]
        root.setLevel(before[0])
