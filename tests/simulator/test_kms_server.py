"""The simulated KMS on the wire: real TLS under its own root, real HTTP, requests signed by boto3's signer."""

import contextlib
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.simulator.kms_bench import HOST
from tests.simulator.kms_wire import Endpoint, opened, request, serving, trusting

from pinaivu_simulator.kms.folder import KmsFolder
from pinaivu_simulator.kms.server import MAX_BODY_BYTES

pytestmark = pytest.mark.trio


async def test_a_data_key_comes_back_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as endpoint:
        made = await endpoint.call("GenerateDataKey", request(endpoint, KeySpec="AES_256"))
        secret = opened(made)
    assert len(secret) == 32
    async with serving(tmp_path) as endpoint:
        sealed = made.json()["CiphertextBlob"]
        found = await endpoint.call("Decrypt", request(endpoint, CiphertextBlob=sealed))
        assert opened(found) == secret
        assert found.json()["KeyId"] == made.json()["KeyId"] == endpoint.kept.key_arn
        other = await endpoint.call("Decrypt", request(endpoint, CiphertextBlob=sealed, EncryptionContext={}))
        assert (other.status_code, other.json()["__type"]) == (400, "InvalidCiphertextException")


async def test_answers_have_awss_headers_and_a_connection_serves_many(tmp_path: Path) -> None:
    async with serving(tmp_path) as endpoint, endpoint.client() as client:
        answers = [
            await endpoint.call_with(client, "GenerateDataKey", request(endpoint, KeySpec="AES_256")) for _ in range(2)
        ]
        streams = {id(answer.extensions["network_stream"]) for answer in answers}
        assert len(streams) == 1
        assert [answer.headers["content-type"] for answer in answers] == ["application/x-amz-json-1.1"] * 2
        assert len({answer.headers["x-amzn-requestid"] for answer in answers}) == 2


async def test_what_is_not_a_post_to_the_root_is_no_operation(tmp_path: Path) -> None:
    async with serving(tmp_path) as endpoint, endpoint.client() as client:
        for method, path in (("GET", "/"), ("POST", "/other"), ("PUT", "/?x=1")):
            answer = await client.request(method, path, extensions={"sni_hostname": HOST})
            assert (answer.status_code, answer.json()["__type"]) == (404, "UnknownOperationException")


async def test_headers_sent_twice_are_joined_and_so_not_what_was_signed(tmp_path: Path) -> None:
    async with serving(tmp_path) as endpoint, endpoint.client() as client:
        body = json.dumps(request(endpoint, KeySpec="AES_256")).encode()
        headers = [("x-amz-target", "TrentService.Decrypt"), *endpoint.signed("GenerateDataKey", body).items()]
        answer = await client.post("/", content=body, headers=headers, extensions={"sni_hostname": HOST})
        assert answer.json()["__type"] == "InvalidSignatureException"


async def handshake_failure(endpoint: Endpoint) -> str:
    """Why a client that wants the endpoint's name to be proved goes no further."""
    stream = await trio.open_tcp_stream("127.0.0.1", endpoint.port)
    secured = trio.SSLStream(stream, endpoint.tls, server_hostname=HOST)
    with pytest.raises(trio.BrokenResourceError) as broken:
        await secured.do_handshake()
    await trio.aclose_forcefully(secured)
    return str(broken.value.__cause__)


async def test_another_regions_endpoint_proves_another_name(tmp_path: Path) -> None:
    async with serving(tmp_path, endpoint="kms.other-1.amazonaws.com") as endpoint:
        assert "Hostname mismatch" in await handshake_failure(endpoint)


async def test_another_networks_root_vouches_for_nothing(tmp_path: Path) -> None:
    other = KmsFolder(tmp_path / "other")
    async with serving(tmp_path / "mine") as endpoint:
        stranger = Endpoint(endpoint.port, endpoint.kept, root=other.tls_root)
        assert "certificate verify failed" in await handshake_failure(stranger)


async def raw_stream(endpoint: Endpoint) -> trio.SSLStream[trio.SocketStream]:
    return await trio.open_ssl_over_tcp_stream("127.0.0.1", endpoint.port, ssl_context=_nameless(endpoint))


def _nameless(endpoint: Endpoint) -> ssl.SSLContext:
    context = trusting(endpoint.kept.tls_root)
    context.check_hostname = False
    return context


async def _abort_before_tls(endpoint: Endpoint) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", endpoint.port)
    await stream.aclose()


async def _speak_no_tls(endpoint: Endpoint) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", endpoint.port) as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\n\r\n")
        async for _ in stream:
            pass


async def _cut_tls(endpoint: Endpoint) -> None:
    stream = await raw_stream(endpoint)
    await stream.send_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345")
    await trio.aclose_forcefully(stream)


async def _speak_no_http(endpoint: Endpoint) -> None:
    await _until_closed(endpoint, b"\x00\x01\x02 nonsense\r\n\r\n")


async def _send_too_much(endpoint: Endpoint) -> None:
    head = f"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {MAX_BODY_BYTES + 1}\r\n\r\n".encode()
    await _until_closed(endpoint, head + bytes(MAX_BODY_BYTES + 1))


async def _until_closed(endpoint: Endpoint, sent: bytes) -> None:
    """The connection is cut, without an answer. Some versions of OpenSSL tell a cut from an end, some do not."""
    stream, answered = await raw_stream(endpoint), b""
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(sent)
        answered = bytes(await stream.receive_some())
    await trio.aclose_forcefully(stream)
    assert answered == b""


@pytest.mark.parametrize("rude", [_abort_before_tls, _speak_no_tls, _cut_tls, _speak_no_http, _send_too_much])
async def test_a_client_that_breaks_off_takes_nobody_with_it(tmp_path: Path, rude: Callable[[Endpoint], Any]) -> None:
    async with serving(tmp_path) as endpoint:
        await rude(endpoint)
        opened(await endpoint.call("GenerateDataKey", request(endpoint, KeySpec="AES_256")))


async def test_a_client_may_ask_whether_to_send_its_body(tmp_path: Path) -> None:
    async with serving(tmp_path) as endpoint:
        stream = await raw_stream(endpoint)
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(b"{}")
        assert b"MissingAuthenticationTokenException" in await stream.receive_some()
        await stream.aclose()
