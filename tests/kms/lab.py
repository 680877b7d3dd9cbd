"""KMS with a real TLS server, and the host in front of it: both do what a test tells them, right or wrong.

Streams are trio's in-memory ones. `Host` implements `Parent`; a connection meets the bridge, which answers one frame,
and then the TLS server of `Kms` behind a wire that can be cut or bent at a byte.
"""

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import h11
import msgspec
import trio
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from trio.testing import memory_stream_pair

from pinaivu_shared.attestation.document import UnverifiedDocument, parse_unverified
from pinaivu_shared.configuration import Configuration, parse_configuration
from pinaivu_shared.framing import FrameReader, frame
from pinaivu_shared.wire.kms import MAX_BRIDGE_FRAME_BYTES, BridgeAnswer, SignedHeaders, SignRequest
from pinaivu_shared.wire.ports import KMS_PORT
from pinaivu_simulator.market import market_configuration

from .authority import Authority
from .envelopes import seal_envelope

KEY_ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ENDPOINT = "kms.eu-central-1.amazonaws.com"
ORIGIN = "pinaivu.test/log"
TRUSTED = Authority("Trusted")
SIGNATURE = "0" * 64


def configuration(*, root: str = TRUSTED.root_hex) -> Configuration:
    """A market whose vault is guarded by KEY_ARN, at the endpoint that `root` vouches for."""
    raw = market_configuration(ORIGIN, ["pinaivu-tiny"])
    read = parse_configuration(raw)
    return msgspec.structs.replace(read, kms=msgspec.structs.replace(read.kms, key_arn=KEY_ARN, tls_root=root))


def sign(asked: SignRequest, *, token: str = "") -> SignedHeaders:
    """A signature of the right form; nobody here checks its value."""
    headers = (
        "content-type;host;x-amz-content-sha256;x-amz-date;" + "x-amz-security-token;" * bool(token) + "x-amz-target"
    )
    scope = f"20261120/{asked.region}/kms/aws4_request"
    authorization = f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders={headers}, Signature={SIGNATURE}"
    return SignedHeaders(authorization, "20261120T214011Z", token)


def http(status: int, body: bytes, *, length: int | None = None) -> bytes:
    """An HTTP answer; `length` is what it claims to hold."""
    head = f"HTTP/1.1 {status} Reason\r\nContent-Type: application/x-amz-json-1.1\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def aws_error(status: int, code: str, message: str = "") -> bytes:
    """AWS's answer to what it refuses."""
    return http(status, json.dumps({"__type": code, "message": message}).encode())


@dataclass
class Call:
    """A request as KMS has it."""

    operation: str
    headers: list[tuple[bytes, bytes]]
    raw_body: bytes = field(repr=False)

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.raw_body)
        return body

    @property
    def document(self) -> UnverifiedDocument:
        return parse_unverified(base64.b64decode(self.body["Recipient"]["AttestationDocument"]))

    @property
    def recipient(self) -> RSAPublicKey:
        public_key = self.document.public_key
        assert public_key is not None
        key = load_der_public_key(public_key)
        assert isinstance(key, RSAPublicKey)
        return key


Answer = Callable[[Call], bytes]


class Kms:
    """Makes and opens secrets. `script` holds what it answers first, one entry each; then it answers rightly."""

    def __init__(self) -> None:
        self.tls = TRUSTED.endpoint(ENDPOINT)
        self.secrets: dict[bytes, bytes] = {}
        self.script: list[Answer] = []
        self.calls: list[Call] = []
        self.answers: list[bytes] = []
        self.says_farewell = False

    def answer(self, call: Call) -> bytes:
        """The HTTP answer to this call, kept in `answers`."""
        self.calls.append(call)
        self.answers.append(self.script.pop(0)(call) if self.script else http(200, self.body(call)))
        return self.answers[-1]

    def body(
        self, call: Call, *, secret: bytes | None = None, changes: Mapping[str, str | None] | None = None
    ) -> bytes:
        """The right body, with some fields changed; None removes one."""
        fields: dict[str, object] = {"KeyId": KEY_ARN, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
        if call.operation == "GenerateDataKey":
            sealed = b"sealed by KMS %d" % len(self.secrets)
            self.secrets[sealed] = bytes([len(self.secrets) + 1]) * 32
            fields["CiphertextBlob"] = base64.b64encode(sealed).decode()
        else:
            sealed = base64.b64decode(call.body["CiphertextBlob"])
        envelope = seal_envelope(secret or self.secrets[sealed], call.recipient, part_bytes=48)
        fields["CiphertextForRecipient"] = base64.b64encode(envelope).decode()
        fields |= changes or {}
        return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One connection, ended without the farewell of TLS unless told otherwise."""
        tls = trio.SSLStream(stream, self.tls, server_side=True)
        with contextlib.suppress(trio.BrokenResourceError):
            await tls.do_handshake()
            await tls.send_all(self.answer(await _read_call(tls)))
            if self.says_farewell:
                await tls.aclose()
        await trio.aclose_forcefully(stream)


class Wire(trio.abc.Stream):
    """The way to the enclave: counts its bytes, ends at byte `cut_at`, xors byte `bend_at` with 0x55."""

    def __init__(self, stream: trio.abc.Stream, *, cut_at: int | None, bend_at: int | None) -> None:
        self._stream, self._cut_at, self._bend_at = stream, cut_at, bend_at
        self.carried = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        part = bytearray(data)
        if self._bend_at is not None and 0 <= self._bend_at - self.carried < len(part):
            part[self._bend_at - self.carried] ^= 0x55
        if self._cut_at is not None:
            del part[max(0, self._cut_at - self.carried) :]
        self.carried += len(part)
        await self._stream.send_all(part)
        if len(part) < len(data):
            await self.aclose()
            raise trio.BrokenResourceError

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class Host:
    """The parent instance with its bridge. Attributes make it hostile."""

    def __init__(self, nursery: trio.Nursery, kms: Kms) -> None:
        self.kms = kms
        self.listens = True
        self.cut_at: int | None = None
        self.bend_at: int | None = None
        self.asked: list[SignRequest] = []
        self.wires: list[Wire] = []
        self.lent: list[trio.abc.Stream] = []
        self.sign: Callable[[SignRequest], BridgeAnswer] = sign
        self.first_bytes: bytes | None = None
        self.behind: Callable[[trio.abc.Stream], Any] = kms.serve
        self._nursery = nursery

    async def connect(self, port: int) -> trio.abc.Stream:
        """See `Parent`."""
        assert port == KMS_PORT
        if not self.listens:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(self._bridge, ours)
        self.lent.append(theirs)
        return theirs

    async def _bridge(self, stream: trio.abc.Stream) -> None:
        wire = Wire(stream, cut_at=self.cut_at, bend_at=self.bend_at)
        self.wires.append(wire)
        with contextlib.suppress(trio.BrokenResourceError):
            asked = msgspec.msgpack.decode(await _read_frame(stream), type=SignRequest)
            self.asked.append(asked)
            answer = self.first_bytes
            if answer is None:
                answer = frame(msgspec.msgpack.encode(self.sign(asked)), max_bytes=MAX_BRIDGE_FRAME_BYTES)
            await wire.send_all(answer)
            await self.behind(wire)
        await trio.aclose_forcefully(wire)


@contextlib.asynccontextmanager
async def running_host() -> AsyncIterator[Host]:
    """A well-behaved host in front of a well-behaved KMS, until the block ends."""
    async with trio.open_nursery() as nursery:
        yield Host(nursery, Kms())
        nursery.cancel_scope.cancel()


def everything_in(error: BaseException) -> Iterator[str]:
    """The texts of an error and of all that led to it."""
    link: BaseException | None = error
    while link is not None:
        yield f"{link} {link!r} {getattr(link, 'args', ())}"
        link = link.__cause__ or link.__context__


async def _read_frame(stream: trio.abc.ReceiveStream) -> bytes:
    reader = FrameReader("enclave", max_bytes=MAX_BRIDGE_FRAME_BYTES)
    while received := await stream.receive_some(1):
        for payload in reader.feed(received):
            return payload
    raise trio.BrokenResourceError


async def _read_call(tls: trio.abc.ReceiveStream) -> Call:
    http_server, body = h11.Connection(h11.SERVER), bytearray()
    request: h11.Request | None = None
    while True:
        match http_server.next_event():
            case h11.Request() as request:
                assert (request.method, request.target) == (b"POST", b"/")
            case h11.Data(data=part):
                body += part
            case h11.EndOfMessage():
                assert request is not None
                target = dict(request.headers)[b"x-amz-target"].decode()
                return Call(target.removeprefix("TrentService."), list(request.headers), bytes(body))
            case h11.NEED_DATA:
                received = await tls.receive_some(4096)
                if not received:
                    raise trio.BrokenResourceError
                http_server.receive_data(bytes(received))
            case other:
                raise AssertionError(other)
