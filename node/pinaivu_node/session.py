"""One session with the market, from Hello to the end of the connection.

Four things go on at once: quotes stand while engines are ready, offers become jobs, the enclave is asked how the node
stands, and everything to be sent goes through one bounded queue with one sender, so that a slow network slows the
engines down instead of filling memory, and a cancelled job never leaves half a message behind.
"""

import logging
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
import trio

from pinaivu_node.admission import NONCE_BYTES, EpochVerifier, Market, check_registered, join, registration
from pinaivu_node.awards import AwardCheck
from pinaivu_node.connection import Connection, ConnectionLostError, ReplacedError
from pinaivu_node.dispatch import Dispatch
from pinaivu_node.engine_pool import EnginePool
from pinaivu_node.job import ProvenJob, Workplace
from pinaivu_node.keys import Identity, Operator
from pinaivu_node.quotes import Acknowledged, QuoteBook, Sequence
from pinaivu_node.reporting import Reporting
from pinaivu_node.standing_quotes import StandingQuotes
from pinaivu_node.status import NodeStatus
from pinaivu_node.status_board import StatusBoard
from pinaivu_shared.errors import PeerError
from pinaivu_shared.wire.node import (
    NODE_PROTOCOL,
    Cancel,
    FromGateway,
    FromNode,
    Goodbye,
    Hello,
    Offer,
    Prove,
    QuoteAcknowledged,
    Register,
    RegistrationAccepted,
    Report,
    Welcome,
    WithdrawQuotes,
)

HANDSHAKE_SECONDS: Final = 30
PING_SECONDS: Final = 20
_QUEUED_MESSAGES: Final = 64
logger = logging.getLogger(__name__)


class NodeProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What a node brings to every session. `now_ms` is its clock, `entropy` its source of random bytes.

    `gateway` is where it connects to, and `show` takes what it has to say about itself.
    """

    identity: Identity
    operator: Operator
    gateway: str
    agent: str
    quote_lifetime_ms: int
    drain_seconds: float
    verify: EpochVerifier
    now_ms: Callable[[], int]
    entropy: Callable[[int], bytes]
    keep_quote: Callable[[Acknowledged], None]
    keep_job: Callable[[ProvenJob], None]
    show: Callable[[NodeStatus], None]


class Session:
    """One session over one connection.

    `draining` ends it in good order once set; `prospered` hears of each quote that stands. Times are the enclave's:
    the node's clock plus the difference seen at registration, so that it need not be right to the second.
    """

    def __init__(  # noqa: PLR0913 - what lasts longer than a session, and is the agent's
        self,
        connection: Connection,
        profile: NodeProfile,
        pool: EnginePool,
        *,
        board: StatusBoard,
        draining: trio.Event,
        prospered: Callable[[], None],
    ) -> None:
        self._connection, self._profile, self._pool, self._board = connection, profile, pool, board
        self._draining, self._prospered = draining, prospered
        self._ahead_ms = 0

    async def register(self) -> Market:
        """Say hello, judge the enclave, answer its challenge. PeerError or VerificationError when it goes wrong."""
        profile, nonce = self._profile, self._profile.entropy(NONCE_BYTES)
        with trio.move_on_after(HANDSHAKE_SECONDS):
            hello = Hello(NODE_PROTOCOL, profile.identity.public_key, nonce, profile.agent)
            await self._connection.send(hello)
            welcome = _expected(await self._connection.receive(), Welcome)
            market = join(welcome, profile.verify, identity=profile.identity, nonce=nonce, now_ms=profile.now_ms())
            answer = registration(market, profile.identity, profile.operator)
            await self._connection.send(Register(answer))
            accepted = _expected(await self._connection.receive(), RegistrationAccepted)
            self._ahead_ms = check_registered(accepted.registered, market, profile.identity) - profile.now_ms()
            return market
        raise ConnectionLostError("gateway", f"no registration within {HANDSHAKE_SECONDS} s")

    async def serve(self, market: Market) -> None:
        """Quote and run jobs until the connection ends (an error) or the node has drained (a return)."""
        send_channel, receive_channel = trio.open_memory_channel[FromNode](_QUEUED_MESSAGES)
        sequence, identity = Sequence(), self._profile.identity
        book = QuoteBook(market, identity, sequence, lifetime_ms=self._profile.quote_lifetime_ms)
        workplace = Workplace(identity, sequence, send_channel.send, self._now_ms, self._profile.keep_job)
        standing = StandingQuotes(book, self._pool, market.configuration, send=send_channel.send, now_ms=self._now_ms)
        reporting = Reporting(market, identity, send=send_channel.send, hear=self._board.hear)
        async with trio.open_nursery() as nursery:
            dispatch = Dispatch(AwardCheck(market, identity, book.posted), self._pool, workplace, nursery)
            self._board.count_jobs(dispatch.running)
            nursery.start_soon(self._ping)
            nursery.start_soon(self._receive, book, dispatch, reporting)
            nursery.start_soon(self._quote_and_drain, standing, dispatch, send_channel)
            nursery.start_soon(reporting.ask)
            async for message in receive_channel:
                await self._connection.send(message)
                if isinstance(message, Prove):
                    reporting.something_happened()
            nursery.cancel_scope.cancel()

    async def _receive(self, book: QuoteBook, dispatch: Dispatch, reporting: Reporting) -> None:
        while True:
            match await self._connection.receive():
                case Offer() as offer:
                    await dispatch.offer(offer)
                case Cancel(request_id=request_id):
                    dispatch.cancel(request_id)
                case QuoteAcknowledged(acknowledgement=acknowledgement):
                    self._profile.keep_quote(book.acknowledged(acknowledgement))
                    self._prospered()
                    reporting.something_happened()
                case Report(report=signed):
                    reporting.take(signed, now_ms=self._profile.now_ms())
                case Goodbye(code=ReplacedError.code):
                    raise ReplacedError("gateway", "says goodbye: replaced")
                case Goodbye(code=code, detail=detail):
                    logger.warning("gateway says goodbye", extra={"kv": {"code": code, "detail": detail}})
                case unexpected:
                    raise PeerError("gateway", f"sent {type(unexpected).__name__} in the middle of a session")

    async def _quote_and_drain(
        self, standing: StandingQuotes, dispatch: Dispatch, channel: trio.MemorySendChannel[FromNode]
    ) -> None:
        """Keep quotes standing until the node drains; then end the session once all is done and sent."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(standing.keep)
            await self._draining.wait()
            nursery.cancel_scope.cancel()
        await channel.send(WithdrawQuotes())
        await dispatch.drain(self._profile.drain_seconds)
        await channel.aclose()

    def _now_ms(self) -> int:
        return self._profile.now_ms() + self._ahead_ms

    async def _ping(self) -> None:
        """Notice a gateway that is gone without a word."""
        while True:
            await trio.sleep(PING_SECONDS)
            with trio.move_on_after(PING_SECONDS) as patience:
                await self._connection.ping()
            if patience.cancelled_caught:
                raise ConnectionLostError("gateway", f"no answer to a ping within {PING_SECONDS} s")


_Expected = TypeVar("_Expected", bound=FromGateway)


def _expected(message: FromGateway, kind: type[_Expected]) -> _Expected:
    if isinstance(message, Goodbye):
        raise PeerError("gateway", f"says goodbye: {message.code} {message.detail}")
    if not isinstance(message, kind):
        raise PeerError("gateway", f"sent {type(message).__name__} instead of {kind.__name__}")
    return message
