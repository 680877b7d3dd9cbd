"""Clients of HTTP/1.0, those who would rather speak HTTP/2, and what is no HTTP at all."""

import asyncio
import json
import re
from typing import Any

import pytest
from tests.host.town import Town, request

pytestmark = pytest.mark.anyio

H2C = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA")


def head_of(town: Town, *lines: str, version: str = "1.1") -> bytes:
    first = (f"POST /v1/chat/completions HTTP/{version}", "host: x", f"authorization: Bearer {town.key}")
    return "\r\n".join((*first, "content-type: application/json", *lines, "", "")).encode()


def body_of(**fields: Any) -> bytes:
    return json.dumps(request(**fields)).encode()


async def told(town: Town, *pieces: bytes) -> bytes:
    """All that is answered to these pieces until the connection is closed; each is read before the next is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", town.port)
    for piece in pieces:
        writer.write(piece)
        await town.client().get("/healthz")
    found = await reader.read()
    writer.close()
    return found


def lengths(body: bytes) -> str:
    return f"content-length: {len(body)}"


async def test_an_offer_of_http_2_is_passed_over_and_the_body_read(town: Town) -> None:
    await town.node()
    body = body_of()
    first = head_of(town, *H2C, lengths(body)) + body
    last = head_of(town, "connection: close, Upgrade", *H2C[1:], lengths(body)) + body
    answers = await told(town, first + last)
    assert answers.count(b"HTTP/1.1 200 OK") == 2, "the connection is still HTTP/1.1's after the first"
    assert answers.count(b'"content":"Hello"') == 2


@pytest.mark.parametrize("cut", [7, 250, -1], ids=["in the head", "behind it", "in the body"])
async def test_so_it_is_however_the_bytes_come(town: Town, cut: int) -> None:
    await town.node()
    body = body_of()
    close = ("connection: Upgrade, close", *H2C[1:])
    sent = head_of(town, *close, lengths(body)) + body
    cut = len(sent) - len(body) if cut == 250 else cut
    assert b'"content":"Hello"' in await told(town, sent[:cut], sent[cut:])
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    assert b'"content":"Hello"' in await told(town, head_of(town, *close, "transfer-encoding: chunked"), chunks)


async def test_an_offer_with_a_stream_and_one_without_a_body_are_answered_too(town: Town) -> None:
    await town.node()
    body = body_of(stream=True)
    close = ("connection: Upgrade, close", *H2C[1:])
    assert b"data: [DONE]" in await told(town, head_of(town, *close, lengths(body)) + body)
    health = "\r\n".join(("GET /healthz HTTP/1.1", "host: x", *close, "", "")).encode()
    assert (await told(town, health)).startswith(b"HTTP/1.1 200 OK")


async def test_a_stream_to_http_1_0_has_no_chunks_and_ends_with_its_connection(town: Town) -> None:
    await town.node()
    body = body_of(stream=True)
    head, _, events = (await told(town, head_of(town, lengths(body), version="1.0") + body)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"\r\nconnection: close" in head
    assert b"transfer-encoding" not in head
    assert re.fullmatch(rb"(data: {[^\n]+}\n\n)+data: \[DONE\]\n\n", events)


async def test_an_answer_to_http_1_0_has_its_length(town: Town) -> None:
    await town.node()
    body = body_of()
    head, _, answer = (await told(town, head_of(town, lengths(body), version="1.0") + body)).partition(b"\r\n\r\n")
    assert b"\r\ncontent-length: %d\r\n" % len(answer) in head
    assert json.loads(answer)["object"] == "chat.completion"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"FETCH /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
    ids=["tls", "http/2", "method", "connect", "two lengths"],
)
async def test_what_is_no_request_here_is_400_in_the_shape_of_all_errors(town: Town, sent: bytes) -> None:
    head, _, body = (await told(town, sent)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n")
    assert b"\r\nconnection: close\r\n" in head
    error = json.loads(body)["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "invalid_request")
    assert "without TLS" in error["message"]
