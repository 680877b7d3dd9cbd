"""HTTP at its edges: HEAD, slashes, and what connections may cost that do not ask anything."""

import asyncio
import re

import httpx
import pytest
from starlette.routing import Route
from tests.host.fake_node import Gate
from tests.host.shape import check_shape
from tests.host.town import ADMIN_KEY, Town

from pinaivu_host.edge import EdgeSettings
from pinaivu_host.http_protocol import HEAD_BYTES_MAX, BoundedHttp

pytestmark = pytest.mark.anyio

HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
NEVER_S = 3600.0
AT_ONCE_S = 0.05


async def connect(town: Town) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", town.port)


async def answered(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One answer with a content-length: its head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head)
    assert found, head
    return head, await reader.readexactly(int(found[1]))


async def reopened(town: Town, edge: EdgeSettings) -> Town:
    town.edge = edge
    return await town.open()


def hurry(town: Town) -> None:
    """Make the deadline short for the heads to come: those before had time, however slow the machine is."""
    protocol = town.server.config.http
    assert isinstance(protocol, type)
    assert issubclass(protocol, BoundedHttp)
    protocol.head_s = AT_ONCE_S


async def test_head_is_get_without_a_body_on_every_route(town: Town) -> None:
    await town.node()
    receipt = (await town.chat()).json()["request_id"]
    node = town.nodes[0].node_id
    values = {"request_id": receipt, "node_id": node, "model:path": "m", "account_id": town.account_id, "number": "0"}
    client, admin = town.client(), town.client(ADMIN_KEY)
    for one in town.host.app._router.routes:
        if not isinstance(one, Route) or one.methods is None or "GET" not in one.methods:
            continue
        path = re.sub(r"{([^}]+)}", lambda name: values.get(name[1], "0"), one.path)
        path += "?nonce=00" if path.endswith("/attestation") else ""
        asker = admin if path.startswith(("/admin", "/metrics")) else client
        head, get = await asker.head(path), await asker.get(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert {*head.headers} == {*get.headers}, path
        assert head.headers["content-type"] == get.headers["content-type"], path
        assert head.headers["content-length"].isdecimal(), path
    shown = await client.head("/v1/models/m")
    assert shown.headers["content-length"] == str(len((await client.get("/v1/models/m")).content))


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions/", "/v1/pricing/", "/v1/usage/", "/healthz/", "/admin/v1/orders/"]
)
async def test_a_slash_too_many_is_404_and_never_a_redirect(town: Town, path: str) -> None:
    for method in ("GET", "POST"):
        answer = await town.client().request(method, path)
        check_shape(answer, 404, "invalid_request_error", "not_found")
        assert "location" not in answer.headers


async def test_so_is_the_list_of_models_with_a_slash_and_no_model_without_a_name(town: Town) -> None:
    body = check_shape(await town.client().get("/v1/models/"), 404, "invalid_request_error", "not_found")
    assert body["error"]["message"] == "there is no /v1/models/; write it without the slash at its end"


async def test_one_connection_too_many_is_told_so_and_closed(openable: Town) -> None:
    town = await reopened(openable, EdgeSettings(connections_max=2, head_s=NEVER_S))
    node = await town.node()  # counts as well
    first_reader, first = await connect(town)
    first.write(HEALTH)
    assert (await answered(first_reader))[0].startswith(b"HTTP/1.1 200")
    reader, writer = await connect(town)
    head, body = await answered(reader)
    assert head.startswith(b"HTTP/1.1 503")
    assert b"\r\nretry-after: 1\r\nconnection: close\r\n" in head
    assert b'"code":"too_many_connections"' in body
    assert await reader.read() == b""
    writer.close()
    first.write(HEALTH)
    assert (await answered(first_reader))[0].startswith(b"HTTP/1.1 200"), "those who were there are served on"
    await node.stop()
    while len(town.server.server_state.connections) > 1:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0)
    second_reader, second = await connect(town)
    second.write(HEALTH)
    assert (await answered(second_reader))[0].startswith(b"HTTP/1.1 200"), "a place came free"
    for used in (first, second):
        used.close()


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: "])
async def test_a_head_that_does_not_come_ends_its_connection(openable: Town, begun: bytes) -> None:
    town = await reopened(openable, EdgeSettings(head_s=NEVER_S))
    hurry(town)
    reader, writer = await connect(town)
    writer.write(begun)
    assert await reader.read() == b"", "no answer, which would be taken for the next one's"
    writer.close()


@pytest.mark.parametrize("begun", [b"\r\n", b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: "])
async def test_so_does_the_head_of_a_second_request_once_begun(openable: Town, begun: bytes) -> None:
    town = await reopened(openable, EdgeSettings(head_s=NEVER_S))
    reader, writer = await connect(town)
    writer.write(HEALTH)
    await answered(reader)
    hurry(town)
    writer.write(begun)
    assert await reader.read() == b""
    writer.close()


async def test_neither_jobs_nor_nodes_nor_idle_connections_have_the_deadline_of_a_head(openable: Town) -> None:
    town = await reopened(openable, EdgeSettings(head_s=NEVER_S))
    gate = Gate()
    node = await town.node(gate.script)
    idle_reader, idle = await connect(town)
    idle.write(HEALTH)
    await answered(idle_reader)
    asking = asyncio.create_task(town.chat())
    await gate.begun.wait()
    hurry(town)
    for _ in range(2):  # the deadline passes twice
        reader, writer = await connect(town)
        assert await reader.read() == b""
        writer.close()
    idle.write(HEALTH)
    assert (await answered(idle_reader))[0].startswith(b"HTTP/1.1 200")
    gate.proceed.set()
    answer: httpx.Response = await asking
    assert answer.status_code == 200
    assert node.close_code is None
    idle.close()


async def test_a_head_without_end_is_refused(openable: Town) -> None:
    town = await reopened(openable, EdgeSettings(head_s=NEVER_S))
    reader, writer = await connect(town)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: " + b"x" * HEAD_BYTES_MAX)
    head, body = await answered(reader)
    assert head.startswith(b"HTTP/1.1 431")
    assert b'"code":"head_too_large"' in body
    writer.close()


async def test_a_large_body_is_no_large_head(openable: Town) -> None:
    town = await reopened(openable, EdgeSettings(head_s=NEVER_S))
    await town.node()
    reader, writer = await connect(town)
    body = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * (2 * HEAD_BYTES_MAX) + b'"}]}'
    lines = (f"content-length: {len(body)}", "content-type: application/json", f"authorization: Bearer {town.key}")
    writer.write(("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode())
    for offset in range(0, len(body), HEAD_BYTES_MAX // 2):
        writer.write(body[offset : offset + HEAD_BYTES_MAX // 2])
        await writer.drain()
    assert (await answered(reader))[0].startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_body_that_comes_after_its_answer_leaves_the_connection_open(openable: Town) -> None:
    town = await reopened(openable, EdgeSettings(head_s=NEVER_S))
    reader, writer = await connect(town)
    writer.write(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab")
    assert (await answered(reader))[0].startswith(b"HTTP/1.1 404")
    hurry(town)
    writer.write(b"cd")
    late_reader, late = await connect(town)
    assert await late_reader.read() == b""
    writer.write(HEALTH)
    assert (await answered(reader))[0].startswith(b"HTTP/1.1 200")
    for used in (writer, late):
        used.close()
