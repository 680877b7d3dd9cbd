"""What brings each row of the table of errors about, over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import msgspec
import pytest
from sqlalchemy.exc import OperationalError
from tests.host.fake_node import Gate, Offered
from tests.host.keyed import ask
from tests.host.town import ADMIN_KEY, CONFIGURATION, Town, request

from pinaivu_host.edge import EdgeSettings
from pinaivu_host.gateway import error_table
from pinaivu_host.gateway.error_table import ErrorKind
from pinaivu_host.http_protocol import HEAD_BYTES_MAX
from pinaivu_host.store.accounts import Accounts
from pinaivu_host.store.idempotency import KeyStore, KeyUse
from pinaivu_shared.configuration import JobLimits
from pinaivu_shared.wire.link import OpenJob

CHAT = "/v1/chat/completions"
Provoke = Callable[[Town, pytest.MonkeyPatch], Awaitable[httpx.Response]]
PROVOKED: dict[ErrorKind, Provoke] = {}


def provokes(kind: ErrorKind) -> Callable[[Provoke], Provoke]:
    """Mark what brings a row about. It opens the town, and may change its settings before."""

    def mark(provoke: Provoke) -> Provoke:
        PROVOKED[kind] = provoke
        return provoke

    return mark


async def sent(town: Town, method: str, path: str, *, key: str = "", **settings: object) -> httpx.Response:
    """One request to a town that is opened for it."""
    await town.open()
    return await town.client(key or None).request(method, path, **settings)  # type: ignore[arg-type]  # httpx's own


def body(kind: ErrorKind, **fields: object) -> None:
    """Register a chat whose body alone brings the row about."""

    @provokes(kind)
    async def _provoke(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
        return await sent(town, "POST", CHAT, json=request(**fields))


def call(kind: ErrorKind, method: str, path: str, **settings: object) -> None:
    """Register a request that brings the row about by itself."""

    @provokes(kind)
    async def _provoke(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
        return await sent(town, method, path, **settings)  # type: ignore[arg-type]  # a key among them


PICTURE = {"type": "image_url", "image_url": {"url": "https://test.example/a.png"}}
NODE = "node_" + "0" * 32
PAYOUT = {"node_id": NODE, "amount": "1", "reference": "wire-1"}
body(error_table.INVALID_REQUEST, stream_options={})
body(error_table.UNSUPPORTED_PARAMETER, audio={})
body(error_table.UNSUPPORTED_IMAGE_URL, messages=[{"role": "user", "content": [PICTURE]}])
body(error_table.INVALID_VALUE, n=0)
body(error_table.MISSING_FIELD, messages=None)
body(error_table.MODEL_NOT_FOUND, model="gpt-9")
body(error_table.NO_NODE_AVAILABLE)
call(error_table.MISSING_API_KEY, "GET", "/v1/models", headers={"authorization": ""})
call(error_table.INVALID_API_KEY, "GET", "/v1/models", key="sk-pnv-" + "a" * 48)
call(error_table.NOT_FOUND, "GET", "/v1/assistants")
call(error_table.RECEIPT_NOT_FOUND, "GET", "/v1/receipts/req_" + "0" * 26)
call(error_table.NO_SUCH_MODEL, "GET", "/v1/models/gpt-9")
call(error_table.METHOD_NOT_ALLOWED, "PUT", CHAT)
call(error_table.ORDER_REFUSED, "POST", "/admin/v1/payouts", key=ADMIN_KEY, json=PAYOUT)
call(error_table.REQUEST_TOO_LARGE, "POST", "/admin/v1/payouts", key=ADMIN_KEY, content=b" " * 20_000)
call(error_table.UNSUPPORTED_MEDIA_TYPE, "POST", CHAT, content=b"<a/>", headers={"content-type": "application/xml"})
call(error_table.INVALID_JSON, "POST", CHAT, content=b"{")


@provokes(error_table.CONTEXT_LENGTH_EXCEEDED)
async def _too_long(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    await town.open()
    await town.node()
    return await town.chat(messages=[{"role": "user", "content": "x" * 900_000}])


@provokes(error_table.KEY_DISABLED)
async def _revoked(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    await town.open()
    await town.revoke(town.key)
    return await town.chat()


async def _with_a_key_that(town: Town, **terms: object) -> httpx.Response:
    await town.open()
    path = f"/admin/v1/accounts/{town.account_id}/keys"
    made = await town.client(ADMIN_KEY).post(path, json={"name": "new"} | terms)
    return await town.client(made.json()["api_key"]).post(CHAT, json=request())


@provokes(error_table.MODEL_NOT_ALLOWED)
async def _other_model(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    return await _with_a_key_that(town, models=["other"])


@provokes(error_table.PERMISSION_DENIED)
async def _read_only(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    return await _with_a_key_that(town, permission="read_only")


@provokes(error_table.NO_OPERATOR_KEY)
async def _no_operator_key(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    town.settings["operator_key"] = None
    return await sent(town, "POST", "/admin/v1/payouts", key=ADMIN_KEY, json=PAYOUT)


@provokes(error_table.REQUEST_TIMEOUT)
async def _slow_body(town: Town, patch: pytest.MonkeyPatch) -> httpx.Response:
    patch.setattr("pinaivu_host.gateway.body.BODY_LIMIT_S", 0.05)
    await town.open()
    begun = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {town.key}\r\n"
    return await written(town, f"{begun}content-length: 9\r\n\r\n".encode())


@provokes(error_table.HEAD_TOO_LARGE)
async def _long_head(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    await town.open()
    return await written(town, b"GET /healthz HTTP/1.1\r\nx-long: " + b"x" * HEAD_BYTES_MAX)


@provokes(error_table.TOO_MANY_CONNECTIONS)
async def _no_place(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    town.edge = EdgeSettings(connections_max=1)
    await town.open()
    assert (await town.client().get("/healthz")).status_code == 200, "its connection stays open"
    return await written(town, b"")


async def written(town: Town, sent_bytes: bytes) -> httpx.Response:
    """What the gateway answers to these bytes, before it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", town.port)
    writer.write(sent_bytes)
    head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, *lines = head.decode().split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return httpx.Response(int(status.split()[1]), headers=headers, content=content)


@provokes(error_table.IDEMPOTENCY_CONFLICT)
async def _another_body(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    await town.open()
    await town.node()
    assert (await ask(town)).status_code == 200
    return await ask(town, user="another")


@provokes(error_table.IDEMPOTENCY_IN_PROGRESS)
async def _just_begun_elsewhere(town: Town, patch: pytest.MonkeyPatch) -> httpx.Response:
    real = KeyStore.begin

    async def begin_late(self: KeyStore, use: KeyUse, *, instead_of: str = "") -> bool:
        await real(self, KeyUse(use.place, use.body_sha256, "req_" + "1" * 26, use.salt))
        return await real(self, use, instead_of=instead_of)

    patch.setattr(KeyStore, "begin", begin_late)
    await town.open()
    return await ask(town)


@provokes(error_table.TOO_MANY_IDEMPOTENCY_KEYS)
async def _too_many_keys(town: Town, patch: pytest.MonkeyPatch) -> httpx.Response:
    patch.setattr("pinaivu_host.gateway.idempotency.KEYS_MAX", 1)
    await town.open()
    await town.node()
    assert (await ask(town)).status_code == 200
    return await ask(town, "another")


@provokes(error_table.IDEMPOTENCY_RESULT_LOST)
async def _lost_answer(town: Town, patch: pytest.MonkeyPatch) -> httpx.Response:
    async def keep_nothing(*_: object) -> bool:
        return True

    patch.setattr(KeyStore, "keep", keep_nothing)
    await town.open()
    await town.node()
    assert (await ask(town)).status_code == 200
    return await ask(town)


@provokes(error_table.ORDER_CONFLICT)
async def _other_order(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    await town.open()
    path = f"/admin/v1/accounts/{town.account_id}/deposits"
    first, second = [{"amount": amount, "reference": "one"} for amount in ("1", "2")]
    assert (await town.client(ADMIN_KEY).post(path, json=first)).status_code == 200
    return await town.client(ADMIN_KEY).post(path, json=second)


@provokes(error_table.INSUFFICIENT_CREDIT)
async def _nothing_left(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    await town.open()
    key = await town.host.accounts.create(name="poor", account_id="acct_" + "1" * 32)
    return await town.client(key).post(CHAT, json=request())


async def limited_key(town: Town, **limits: int) -> str:
    """A key with these limits, in a town that is opened for it, with a node."""
    await town.open()
    await town.node()
    path = f"/admin/v1/accounts/{town.account_id}/keys"
    made = await town.client(ADMIN_KEY).post(path, json={"name": "limited", **limits})
    key: str = made.json()["api_key"]
    return key


def limited(kind: ErrorKind, *, before: int = 0, **limits: int) -> None:
    """Register a chat that a key with these limits may not send, after `before` that it may."""

    @provokes(kind)
    async def _provoke(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
        client = town.client(await limited_key(town, **limits))
        for _ in range(before):
            assert (await client.post(CHAT, json=request())).status_code == 200
        return await client.post(CHAT, json=request())


limited(error_table.RATE_LIMIT_EXCEEDED, before=1, requests_per_minute=1)
limited(error_table.REQUEST_OVER_LIMIT, tokens_per_minute=1)
limited(error_table.BUDGET_EXCEEDED, monthly_budget=1)


@provokes(error_table.BUDGET_HELD)
async def _budget_held(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    client = town.client(await limited_key(town, monthly_budget=100))
    gate = Gate()
    await town.node(gate.script, rank=-1)
    running = asyncio.create_task(client.post(CHAT, json=request(max_tokens=500)))
    await gate.begun.wait()
    answer = await client.post(CHAT, json=request(max_tokens=500))
    gate.proceed.set()
    assert (await running).status_code == 200
    return answer


@provokes(error_table.CREDIT_HELD)
async def _held(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    town.settings["queue_max"] = 0
    await town.open()
    gate = Gate()
    await town.node(gate.script)
    _, key = await town.account("short", credit=20)
    running = asyncio.create_task(town.client(key).post(CHAT, json=request()))
    await gate.begun.wait()
    answer = await town.client(key).post(CHAT, json=request())
    gate.proceed.set()
    assert (await running).status_code == 200
    return answer


@provokes(error_table.INTERNAL_ERROR)
async def _our_own_bug(town: Town, patch: pytest.MonkeyPatch) -> httpx.Response:
    patch.setattr("pinaivu_host.gateway.health.now_ms", lambda: 1 // 0)
    return await sent(town, "GET", "/readyz")


@provokes(error_table.NODE_FAILED)
async def _broken_engine(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    async def decline(offered: Offered) -> None:
        await offered.decline("engine_unavailable")

    await town.open()
    await town.node(decline)
    return await town.chat()


@provokes(error_table.TIMEOUT)
async def _mute_node(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    limits = JobLimits(attempts=1, first_token_ms=100, duration_ms=60_000)
    town.configuration = msgspec.structs.replace(CONFIGURATION, jobs=limits)
    await town.open()
    await town.node(Offered.accept)
    return await town.chat()


@provokes(error_table.COORDINATOR_UNAVAILABLE)
async def _lost_enclave(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    await town.open()
    town.enclave.refused[OpenJob] = "illegal_command"
    return await town.chat()


@provokes(error_table.DATABASE_UNAVAILABLE)
async def _lost_database(town: Town, patch: pytest.MonkeyPatch) -> httpx.Response:
    async def lose(*_: object) -> None:
        raise OperationalError("SELECT", None, ConnectionError("gone"), connection_invalidated=True)

    await town.open()
    patch.setattr(Accounts, "holder", lose)
    return await town.chat()


@provokes(error_table.OVERLOADED)
async def _full_market(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    await town.open()
    town.enclave.refused[OpenJob] = "market_full"
    return await town.chat()


@provokes(error_table.SHUTTING_DOWN)
async def _draining(town: Town, _patch: pytest.MonkeyPatch) -> httpx.Response:
    await town.open()
    town.host.market.draining = True
    return await town.chat()
