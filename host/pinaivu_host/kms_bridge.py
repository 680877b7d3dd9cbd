"""The parent's end of the KMS bridge (wire.kms): signs for the enclave, then carries bytes that it cannot read.

What the enclave sends is bounded and limited in time like anybody's. Name and certificate of the endpoint are judged
inside the enclave, so where this end dials decides about nothing but availability.
"""

import asyncio
import errno
import logging
import socket
from dataclasses import asdict
from typing import Final

import msgspec

from pinaivu_host.byte_pipe import join
from pinaivu_host.errors import BridgeRefusedError, CredentialsUnavailableError
from pinaivu_host.kms_signing import CredentialSource, FindCredentials, signed_headers
from pinaivu_host.listening_address import ListeningAddress, listen_at, stop_listening
from pinaivu_host.streams import BUFFER_BYTES, Stream, aborting, open_stream
from pinaivu_shared.configuration import KmsTerms
from pinaivu_shared.errors import PeerError
from pinaivu_shared.framing import PREFIX_BYTES, announced_bytes, frame
from pinaivu_shared.wire.kms import MAX_BRIDGE_FRAME_BYTES, BridgeAnswer, BridgeRefusal, SignedHeaders, SignRequest

logger = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 8
"""Further ones wait in the listener's backlog; one enclave asks for one thing at a time."""
REQUEST_LIMIT_S: Final = 10.0
CONNECT_LIMIT_S: Final = 10.0
IDLE_LIMIT_S: Final = 60.0
DESCRIPTORS_DELAY_S: Final = 0.5
NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)
HTTPS_PORT: Final = 443

_decoder: Final = msgspec.msgpack.Decoder(SignRequest)
_encoder: Final = msgspec.msgpack.Encoder()


class KmsBridge:
    """Answers the enclave of this host. `connect_to` is dialled in place of the endpoint's own name and port.

    Takes its address at once, CallerError where that is impossible, and answers from `start` to `stop`.
    `enclave_cid`: on vsock nobody else is answered, for other enclaves of this instance can dial here as well.
    """

    def __init__(
        self,
        address: ListeningAddress,
        terms: KmsTerms,
        *,
        find_credentials: FindCredentials,
        connect_to: tuple[str, int] | None = None,
        enclave_cid: int | None = None,
    ) -> None:
        self._address, self._terms = address, terms
        self._connect_to, self._enclave_cid = connect_to, enclave_cid
        self._credentials = CredentialSource(find_credentials)
        self._accepting = asyncio.Lock()
        self._workers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._listener = listen_at(address)

    def start(self) -> None:
        """Begin to answer."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(CONNECTIONS_MAX)]

    async def stop(self) -> None:
        """Drop every connection and listen no longer."""
        self._stopping = True
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        stop_listening(self._listener, self._address)

    async def _work(self) -> None:
        """Serve one connection after the other. The listener can wake only one of those who wait for it."""
        loop = asyncio.get_running_loop()
        while not self._stopping:  # a connection that breaks just then swallows the cancellation (TaskGroup, 3.11)
            try:
                async with self._accepting:
                    accepted, peer = await loop.sock_accept(self._listener)
                await self._serve(accepted, peer)
            except (OSError, PeerError, asyncio.IncompleteReadError) as error:
                logger.warning("KMS bridge: connection dropped", extra={"kv": {"error": str(error)}})
                if isinstance(error, OSError) and error.errno in NO_DESCRIPTORS:
                    await asyncio.sleep(DESCRIPTORS_DELAY_S)
            except Exception:
                logger.exception("KMS bridge: a connection has died")

    async def _serve(self, accepted: socket.socket, peer: object) -> None:
        if is_stranger(peer, self._enclave_cid):
            accepted.close()
            raise PeerError("a stranger", f"dialled from {peer}, our enclave has CID {self._enclave_cid}")
        enclave = await open_stream(accepted)
        with aborting(enclave):
            await self._carry_request(enclave)

    async def _carry_request(self, enclave: Stream) -> None:
        request = await read_request(enclave[0])
        try:
            headers, endpoint = await self._prepare(request)
        except BridgeRefusedError as refused:
            kv = {"code": refused.refusal, "detail": refused.detail}
            logger.error("KMS bridge refused a request", extra={"kv": kv})  # noqa: TRY400 - the text says it all
            await _send(enclave[1], BridgeRefusal(refused.refusal, refused.detail))
            return
        with aborting(endpoint):
            await _send(enclave[1], headers)
            carried = await join(enclave, endpoint, idle_limit_s=IDLE_LIMIT_S)
        logger.info("KMS request carried", extra={"kv": {"target": request.target, **asdict(carried)}})

    async def _prepare(self, request: SignRequest) -> tuple[SignedHeaders, Stream]:
        """Everything that can go wrong before the enclave speaks TLS: BridgeRefusedError says what."""
        if (request.endpoint, request.region) != (self._terms.endpoint, self._terms.region):
            detail = f"{request.endpoint} in {request.region} is not where the configured key is"
            raise BridgeRefusedError("endpoint_not_allowed", detail)
        try:
            credentials = await self._credentials.current()
            endpoint = await self._dial()
        except CredentialsUnavailableError as error:
            raise BridgeRefusedError("no_credentials", str(error)) from error
        try:
            return signed_headers(credentials, request), endpoint  # after dialling, for the date is part of it
        except CredentialsUnavailableError as error:
            endpoint[1].transport.abort()
            raise BridgeRefusedError("no_credentials", str(error)) from error

    async def _dial(self) -> Stream:
        host, port = self._connect_to or (self._terms.endpoint, HTTPS_PORT)
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                return await asyncio.open_connection(host, port, limit=BUFFER_BYTES)
        except OSError as error:
            detail = f"{host}:{port} cannot be reached: {error.strerror or type(error).__name__}"
            raise BridgeRefusedError("endpoint_unreachable", detail) from error


def is_stranger(peer: object, enclave_cid: int | None) -> bool:
    """Whether this peer address, as `accept` gave it, belongs to another vsock CID than the enclave's."""
    return enclave_cid is not None and isinstance(peer, tuple) and peer[0] != enclave_cid


async def read_request(reader: asyncio.StreamReader) -> SignRequest:
    """The one frame that the enclave begins with; PeerError for anything else, TimeoutError when it does not come."""
    async with asyncio.timeout(REQUEST_LIMIT_S):
        prefix = await reader.readexactly(PREFIX_BYTES)
        payload = await reader.readexactly(announced_bytes(prefix, peer="enclave", max_bytes=MAX_BRIDGE_FRAME_BYTES))
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PeerError("enclave", f"sent what is no SignRequest: {error}") from error


async def _send(writer: asyncio.StreamWriter, answer: BridgeAnswer) -> None:
    writer.transport.set_write_buffer_limits(high=0)
    writer.write(frame(_encoder.encode(answer), max_bytes=MAX_BRIDGE_FRAME_BYTES))
    await writer.drain()
