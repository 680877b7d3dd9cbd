"""The WebSocket endpoint for nodes. What node and enclave sign passes through here and cannot be changed here.

Hello, Welcome, Register, RegistrationAccepted within a few seconds each; then quotes, reports, and one job after the
other or side by side. A message that the protocol does not allow ends the connection with a Goodbye that says why.
"""

import asyncio
import contextlib
import logging
from typing import Final, TypeVar

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from pinaivu_host.capacity import Capacity
from pinaivu_host.clock import now_ms
from pinaivu_host.errors import CommandRefusedError, CoordinatorUnavailableError
from pinaivu_host.late_proofs import report_proof
from pinaivu_host.link import EnclaveLink
from pinaivu_host.node_connections import NodeConnection, NodeConnections
from pinaivu_host.node_websocket import MESSAGE_SIZE
from pinaivu_host.store.evidence import EvidenceStore
from pinaivu_host.store.models import FirstQuotes
from pinaivu_shared.canonical import decode
from pinaivu_shared.errors import PeerError
from pinaivu_shared.signed import Signed
from pinaivu_shared.terms import QuoteAcknowledgement
from pinaivu_shared.wire import link as enclave
from pinaivu_shared.wire.node import (
    MAX_NODE_MESSAGE_BYTES,
    NODE_PROTOCOL,
    Accept,
    Decline,
    Delta,
    FromNode,
    Goodbye,
    Hello,
    NodeMessage,
    PostQuote,
    Prove,
    QuoteAcknowledged,
    Register,
    RegistrationAccepted,
    Report,
    RequestReport,
    Welcome,
    WithdrawQuotes,
    decode_from_node,
    encode,
)

logger = logging.getLogger(__name__)
_Message = TypeVar("_Message")
_Wish = PostQuote | WithdrawQuotes | RequestReport
"""What a node wants of the market; each is answered before the next is looked at."""

HANDSHAKE_LIMIT_S: Final = 10.0
PART_LIMIT_S: Final = 2.0
UNREGISTERED_MAX: Final = 64
WISHES_WAITING_MAX: Final = 64
MESSAGES_PER_TURN: Final = 64
SIGNED_PAYLOAD_BYTES_MAX: Final = 64 * 1024
SIGNATURE_BYTES_MAX: Final = 256


class NodeEndpoint:
    """Serves one node per connection, from its Hello to its end."""

    def __init__(
        self,
        *,
        link: EnclaveLink,
        connections: NodeConnections,
        capacity: Capacity,
        first_quotes: FirstQuotes,
        evidence: EvidenceStore,
    ) -> None:
        self._link, self._connections, self._capacity = link, connections, capacity
        self._first_quotes, self._evidence = first_quotes, evidence
        self._unregistered = 0

    async def serve(self, socket: WebSocket) -> None:
        """One connection."""
        await socket.accept()
        session = _Session(socket)
        try:
            await self._serve(session)
        except PeerError as error:
            await session.part("protocol_error", error.detail, code=1008)
        except CommandRefusedError as error:
            await session.part(error.refusal, error.detail, code=1008)
        except TimeoutError:
            await session.part("handshake_timeout", f"at most {HANDSHAKE_LIMIT_S:.0f} s for each step", code=1008)
        except CoordinatorUnavailableError as error:
            await session.part(error.code, "try again", code=1013)
        except WebSocketDisconnect:
            pass

    async def _serve(self, session: "_Session") -> None:
        connection = await self._admit(session)
        logger.info("node registered", extra={"kv": {"node_id": connection.node_id, "session": connection.session}})
        self._connections.add(connection)
        try:
            await self._serve_registered(session, connection)
        finally:
            self._connections.remove(connection)
            logger.info("node gone", extra={"kv": {"node_id": connection.node_id, "session": connection.session}})
            with contextlib.suppress(CoordinatorUnavailableError, CommandRefusedError):
                await self._link.call(enclave.EndSession(connection.session), enclave.Done)

    async def _admit(self, session: "_Session") -> NodeConnection:
        if self._unregistered >= UNREGISTERED_MAX:
            raise CoordinatorUnavailableError("too many nodes are registering")
        self._unregistered += 1
        try:
            return await self._handshake(session)
        finally:
            self._unregistered -= 1

    async def _handshake(self, session: "_Session") -> NodeConnection:
        async with asyncio.timeout(HANDSHAKE_LIMIT_S):
            hello = await session.expect(Hello)
        if hello.protocol != NODE_PROTOCOL:
            raise PeerError("node", f"speaks protocol {hello.protocol}, this gateway speaks {NODE_PROTOCOL}")
        issued = await self._link.call(enclave.RequestChallenge(hello.public_key), enclave.ChallengeIssued)
        attested = await self._link.call(enclave.Attest(hello.nonce), enclave.Attestation)
        await session.send(Welcome(attested.document, attested.manifest, attested.configuration, issued.challenge))
        async with asyncio.timeout(HANDSHAKE_LIMIT_S):
            registration = (await session.expect(Register)).registration
        _check_size(registration)
        registered = await self._link.call(enclave.RegisterNode(issued.session, registration), enclave.NodeRegistered)
        session.allow(MAX_NODE_MESSAGE_BYTES)
        await session.send(RegistrationAccepted(registered.registered))
        return NodeConnection(session=issued.session, node_id=registered.node_id, close=session.end)

    async def _serve_registered(self, session: "_Session", connection: NodeConnection) -> None:
        """Read, write, do what the node wants and pass on late proofs until the first of these ends."""
        wishes: asyncio.Queue[_Wish] = asyncio.Queue(WISHES_WAITING_MAX)
        tasks = [
            asyncio.create_task(_read(session, connection, wishes)),
            asyncio.create_task(_write(session, connection)),
            asyncio.create_task(self._fulfil(connection, wishes)),
            asyncio.create_task(self._report_late_proofs(connection)),
            asyncio.create_task(session.ended()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _fulfil(self, connection: NodeConnection, wishes: asyncio.Queue[_Wish]) -> None:
        while True:
            match await wishes.get():
                case PostQuote() as message:
                    await self._take_quote(connection, message)
                case WithdrawQuotes(model):
                    _withdraw(connection, model)
                    await self._link.call(enclave.WithdrawQuotes(connection.session, model), enclave.Done)
                case RequestReport():
                    asked = enclave.ReadNodeReport(connection.session)
                    connection.send(Report((await self._link.call(asked, enclave.NodeReported)).report))

    async def _report_late_proofs(self, connection: NodeConnection) -> None:
        """The enclave decides what they are worth: most often nothing."""
        while True:
            late = await connection.late_proofs.get()
            # A node that leaves at once must not take along what convicts it.
            await asyncio.shield(report_proof(self._link, self._evidence, late.request_id, late.proof))

    async def _take_quote(self, connection: NodeConnection, message: PostQuote) -> None:
        posted = await self._link.call(enclave.PostSealedQuote(connection.session, message.sealed), enclave.QuotePosted)
        acknowledged = decode(posted.acknowledgement.payload, QuoteAcknowledgement, check="quote acknowledgement")
        if acknowledged.expires_ms > now_ms():
            connection.offered_until_ms[posted.model] = acknowledged.expires_ms
        await self._first_quotes.note(posted.model)
        connection.send(QuoteAcknowledged(posted.acknowledgement))
        self._capacity.quoted(posted.model)


class _Session:
    """One WebSocket: whole messages in, whole messages out, and one way to end it."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._end: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    async def receive(self) -> tuple[FromNode, int]:
        """The next message and its size in bytes; PeerError for anything else."""
        event = await self._socket.receive()
        if event["type"] != "websocket.receive":
            raise WebSocketDisconnect(event.get("code", 1006))
        raw = event.get("bytes")
        if raw is None:
            raise PeerError("node", "sent text where msgpack belongs")
        try:
            return decode_from_node(raw), len(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PeerError("node", f"sent what is no message: {error}") from error

    async def expect(self, kind: type[_Message]) -> _Message:
        """The next message, which must be of this kind."""
        message, _ = await self.receive()
        if not isinstance(message, kind):
            raise PeerError("node", f"sent {type(message).__name__} where {kind.__name__} belongs")
        return message

    def allow(self, size_bytes: int) -> None:
        """Take messages of this size from now on."""
        self._socket.scope["extensions"][MESSAGE_SIZE]["allow"](size_bytes)

    async def send(self, message: NodeMessage) -> None:
        """Send one message."""
        await self.send_raw(encode(message))

    async def send_raw(self, raw: bytes) -> None:
        """Send one encoded message."""
        await self._socket.send_bytes(raw)

    def end(self, code: int, reason: str) -> None:
        """Ask for the connection to be closed."""
        if not self._end.done():
            self._end.set_result((code, reason))

    async def ended(self) -> None:
        """Close once somebody asked for it."""
        code, reason = await self._end
        await self.part(reason, "", code=code)

    async def part(self, reason: str, detail: str, *, code: int) -> None:
        """Say Goodbye and close."""
        if self._socket.application_state is not WebSocketState.CONNECTED:
            return
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(PART_LIMIT_S):  # it may not be reading
                await self.send(Goodbye(reason[:100], detail[:2000]))
                await self._socket.close(code, reason[:100])


async def _read(session: _Session, connection: NodeConnection, wishes: asyncio.Queue[_Wish]) -> None:
    turn = 0
    while True:
        message, size_bytes = await session.receive()
        _hear(connection, wishes, message, size_bytes)
        turn += 1
        if turn % MESSAGES_PER_TURN == 0:
            await asyncio.sleep(0)  # what is already buffered is received without giving others a turn


def _hear(connection: NodeConnection, wishes: asyncio.Queue[_Wish], message: FromNode, size_bytes: int) -> None:
    match message:
        case Delta() | Decline():
            connection.hear(message, size_bytes)
        case Accept():
            _check_size(message.acceptance)
            connection.hear(message, size_bytes)
        case Prove():
            _check_size(message.proof)
            connection.hear(message, size_bytes)
        case PostQuote() | WithdrawQuotes() | RequestReport():
            if wishes.full():
                raise PeerError("node", f"has more than {WISHES_WAITING_MAX} quotes and questions waiting")
            wishes.put_nowait(message)
        case Hello() | Register():
            raise PeerError("node", f"sent {type(message).__name__} a second time")


async def _write(session: _Session, connection: NodeConnection) -> None:
    while True:
        await session.send_raw(await connection.next_outgoing())


def _withdraw(connection: NodeConnection, model: str) -> None:
    if model:
        connection.offered_until_ms.pop(model, None)
    else:
        connection.offered_until_ms.clear()


def _check_size(signed: Signed) -> None:
    if len(signed.payload) > SIGNED_PAYLOAD_BYTES_MAX or len(signed.signature) > SIGNATURE_BYTES_MAX:
        raise PeerError("node", f"signed more than {SIGNED_PAYLOAD_BYTES_MAX} bytes")
