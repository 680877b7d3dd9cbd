"""What a worker passes on reaches the host as it came, and no caller who is slow holds up the way there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from pinaivu_host.edge import EdgeSettings
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.http_server import make_server
from pinaivu_host.workers import relay as relay_module
from pinaivu_host.workers.relay import Relay

pytestmark = pytest.mark.anyio


class Inner:
    """The host's side: what came, and an answer without a body."""

    def __init__(self) -> None:
        self.seen: list[tuple[Scope, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        self.seen.append((scope, message.get("body", b"")))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def relayed(folder: Path) -> AsyncIterator[tuple[Relay, Inner]]:
    inner = Inner()
    server = make_server(inner, EdgeSettings(trusted_proxies=("*",)), unix_socket=folder / "http.sock")
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0)
    relay = Relay(folder / "http.sock")
    yield relay, inner
    await relay.close()
    server.should_exit = True
    await serving


def scope(path: bytes, *headers: tuple[bytes, bytes], method: str = "GET") -> Scope:
    host = (b"host", b"api.example.com")
    return {
        "type": "http", "method": method, "raw_path": path, "query_string": b"", "scheme": "https",
        "client": ("192.0.2.7", 1), "headers": [host, *headers],
    }  # fmt: skip


def receiving(*messages: Message) -> Receive:
    left = list(messages)

    async def receive() -> Message:
        return left.pop(0) if left else await asyncio.Future()

    return receive


async def ask(relay: Relay, asked: Scope, *messages: Message) -> int:
    sent: list[Any] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await relay.serve(asked, receiving(*messages), send)
    status: int = sent[0]["status"]
    return status


@pytest.mark.parametrize(
    "path", [b"/v1/../admin/v1/accounts", b"/v1/%2e%2e/admin", b"/a/./b", b"//admin", b"/a%0d%0ab", b"/a;b|c<d>"]
)
async def test_a_path_is_passed_on_as_it_came(tmp_path: Path, path: bytes) -> None:
    """A proxy before the workers may have looked at it: nothing is resolved after that."""
    async with relayed(tmp_path) as (relay, inner):
        assert await ask(relay, scope(path)) == 204
        assert inner.seen[0][0]["raw_path"] == path


@pytest.mark.parametrize("path", [b"/a b", b"/\xff", b"/a\r\nx-evil: 1", b""])
async def test_a_path_that_http_cannot_say_is_not_there(tmp_path: Path, path: bytes) -> None:
    async with relayed(tmp_path) as (relay, inner):
        with pytest.raises(ApiError) as refused:
            await ask(relay, scope(path))
        assert refused.value.kind.code == "not_found"
        assert not inner.seen


async def test_the_caller_says_nothing_of_his_connection(tmp_path: Path) -> None:
    spoofed = [(b"x-forwarded-for", b"10.0.0.1"), (b"x-forwarded-proto", b"http"), (b"expect", b"100-continue")]
    lengths = [(b"transfer-encoding", b"chunked"), (b"content-length", b"1")]
    async with relayed(tmp_path) as (relay, inner):
        body = {"type": "http.request", "body": b"{}", "more_body": False}
        assert await ask(relay, scope(b"/admin", *spoofed, *lengths, method="POST"), body) == 204
        ((seen, given),) = inner.seen
    assert (seen["client"][0], seen["scheme"], given) == ("192.0.2.7", "https", b"{}")
    names = [name for name, _ in seen["headers"]]
    assert b"expect" not in names
    assert (b"content-length", b"2") in seen["headers"]
    assert b"transfer-encoding" not in names


async def test_a_body_is_there_before_a_connection_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise as many callers as there are connections, each slow, would be all that a worker passes on."""
    monkeypatch.setattr(relay_module, "CONNECTIONS_MAX", 2)
    async with relayed(tmp_path) as (relay, inner):
        begun = {"type": "http.request", "body": b"{", "more_body": True}
        post = scope(b"/admin", (b"content-length", b"2"), method="POST")
        slow = [asyncio.create_task(ask(relay, post, begun)) for _ in range(2)]
        await asyncio.sleep(0)
        assert await ask(relay, scope(b"/v1/models")) == 204
        assert [seen["raw_path"] for seen, _ in inner.seen] == [b"/v1/models"]
        for one in slow:
            one.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


async def test_a_long_body_is_refused_here(tmp_path: Path) -> None:
    async with relayed(tmp_path) as (relay, inner):
        long = {"type": "http.request", "body": b"x" * (relay_module.BODY_BYTES_MAX + 1), "more_body": True}
        with pytest.raises(ApiError) as refused:
            await ask(relay, scope(b"/admin", (b"transfer-encoding", b"chunked"), method="POST"), long)
        assert refused.value.kind.status == 413
        assert not inner.seen
