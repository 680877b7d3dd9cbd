"""A simulated KMS on a port, and a client that reaches it as the enclave does through the bridge."""

import base64
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.simulator.kms_bench import HOST, document, open_envelope, policy_document

from pinaivu_simulator.clock import now_ms
from pinaivu_simulator.kms.folder import KmsFolder
from pinaivu_simulator.kms.program import platform_service
from pinaivu_simulator.kms.server import serve_kms

CONTEXT = {"pinaivu:origin": "market.example"}


def trusting(root_der: bytes) -> ssl.SSLContext:
    """A client that trusts this root alone and judges as Python does from 3.13 on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.hostname_checks_common_name = False
    context.load_verify_locations(cadata=root_der)
    return context


class Endpoint:
    """A client of one running KMS: it names the endpoint and dials the port, as the bridge does."""

    def __init__(self, port: int, kept: KmsFolder, *, root: bytes | None = None) -> None:
        self.port, self.kept = port, kept
        self.tls = trusting(root or kept.tls_root)

    def signed(self, target: str, body: bytes) -> dict[str, str]:
        """Headers by boto3's signer, which sees the body's hash only with the credentials in the folder."""
        ((access_key, known),) = self.kept.credentials.items()
        credentials = Credentials(access_key, known.secret)
        request = AWSRequest(
            method="POST",
            url=f"https://{HOST}/",
            headers={
                "Content-Type": "application/x-amz-json-1.1",
                "Host": HOST,
                "X-Amz-Target": f"TrentService.{target}",
                "X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest(),
            },
        )
        SigV4Auth(credentials, "kms", "local-1").add_auth(request)
        return dict(request.headers.items())

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """An HTTP client that goes through no proxy."""
        url = f"https://127.0.0.1:{self.port}"
        async with httpx.AsyncClient(base_url=url, verify=self.tls, trust_env=False, timeout=60) as client:
            yield client

    async def call(self, target: str, request: dict[str, Any]) -> httpx.Response:
        """One signed call on a connection of its own."""
        async with self.client() as client:
            return await self.call_with(client, target, request)

    async def call_with(self, client: httpx.AsyncClient, target: str, request: dict[str, Any]) -> httpx.Response:
        """One signed call on this client's connection."""
        body = json.dumps(request).encode()
        return await client.post(
            "/", content=body, headers=self.signed(target, body), extensions={"sni_hostname": HOST}
        )


@asynccontextmanager
async def serving(folder: Path, *, endpoint: str = HOST) -> AsyncIterator[Endpoint]:
    """A KMS in this process, under a policy that lets in the bench's enclaves."""
    kept = KmsFolder(folder)
    policy = folder / "policy.json"
    policy.write_bytes(policy_document())
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, kept, policy, endpoint, listeners)
        yield Endpoint(listeners[0].socket.getsockname()[1], kept)
        nursery.cancel_scope.cancel()


async def serve(kept: KmsFolder, policy: Path, endpoint: str, listeners: list[trio.SocketListener]) -> None:
    await serve_kms(platform_service(kept, policy), tls=kept.tls(endpoint), listeners=listeners, now_ms=now_ms)


def request(endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    raw = document(pki=endpoint.kept.platform.pki(), now_ms=now_ms())
    recipient = {
        "AttestationDocument": base64.b64encode(raw).decode(),
        "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
    }
    return {"KeyId": endpoint.kept.key_arn, "EncryptionContext": CONTEXT, "Recipient": recipient} | more


def opened(answer: httpx.Response) -> bytes:
    assert answer.status_code == 200, answer.text
    assert "Plaintext" not in answer.text
    return open_envelope(base64.b64decode(answer.json()["CiphertextForRecipient"]))
