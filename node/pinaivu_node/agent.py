"""The agent: one session after another until the node drains, and engines that live on between them."""

import logging
from collections.abc import Callable, Sequence
from typing import Final

import trio

from pinaivu_node.back_off import BackOff
from pinaivu_node.connection import Dial, ReplacedError
from pinaivu_node.engine_pool import EnginePool
from pinaivu_node.session import NodeProfile, Session
from pinaivu_node.status import beginning
from pinaivu_node.status_board import StatusBoard
from pinaivu_node.tariff import Tariff
from pinaivu_shared.errors import PeerError, PinaivuError, VerificationError

FIRST_YIELD_SECONDS: Final = 60
LAST_YIELD_SECONDS: Final = 3600
logger = logging.getLogger(__name__)


class Agent:
    """A node at work. `run` it, and `drain` it once."""

    def __init__(self, profile: NodeProfile, pool: EnginePool, dial: Dial, jitter: Callable[[], float]) -> None:
        """`dial` opens a connection to the gateway; `jitter` gives numbers from 0 to 1, for the pauses."""
        self._profile, self._pool, self._dial = profile, pool, dial
        self._back_off = BackOff(jitter)
        self._yielding = BackOff(jitter, first_seconds=FIRST_YIELD_SECONDS, last_seconds=LAST_YIELD_SECONDS)
        self._board = _board(profile, pool)
        self._draining = trio.Event()
        self._attempt, self._serving = trio.CancelScope(), False

    def set_tariffs(self, tariffs: Sequence[Tariff]) -> None:
        """Quote anew at these tariffs, one for each engine; running jobs keep their awards."""
        self._pool.set_tariffs(tariffs)

    def drain(self) -> None:
        """Take no new jobs, finish those running, then leave. Without a session there is nothing to finish."""
        self._draining.set()
        self._board.drain()
        if not self._serving:
            self._attempt.cancel()

    async def run(self) -> None:
        """Work until drained."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pool.run)
            nursery.start_soon(self._board.keep)
            while not self._draining.is_set():
                with trio.CancelScope() as self._attempt:
                    pauses = await self._hold_session()
                    if not self._draining.is_set():
                        await trio.sleep(pauses.next_pause())
            nursery.cancel_scope.cancel()
        logger.info("node has left", extra={"kv": {"node_id": self._profile.identity.node_id}})

    async def _hold_session(self) -> BackOff:
        """Hold one session for as long as it lasts; the pauses to make after it.

        Whoever was replaced yields to the newer session. Coming back at once would end that one, which would come back
        too, and between them no job would ever be finished. These pauses only grow: a session that begins well proves
        nothing here.
        """
        pauses, ended = self._back_off, ""
        self._board.connect()
        try:
            async with self._dial() as connection:
                session = Session(
                    connection,
                    self._profile,
                    self._pool,
                    board=self._board,
                    draining=self._draining,
                    prospered=self._back_off.reset,
                )
                market = await session.register()
                logger.info("registered", extra={"kv": {"session": market.session}})
                self._board.open(market.session)
                self._serving = True
                await session.serve(market)
        except* ReplacedError:
            advice = "stop one of the two, or give it a data directory of its own; this one keeps out of the way"
            told = {"node_id": self._profile.identity.node_id, "detail": advice}
            logger.warning("another process uses this node's key", extra={"kv": told})
            pauses, ended = self._yielding, f"another process uses this node's key: {advice}"
        except* (PeerError, VerificationError) as group:
            error = _first(group)
            logger.warning("session ended", extra={"kv": {"code": error.code, "detail": str(error)}})
            ended = str(error)
        finally:
            self._serving = False
            self._board.end(ended)
        return pauses


def _board(profile: NodeProfile, pool: EnginePool) -> StatusBoard:
    first = beginning(
        node_id=profile.identity.node_id,
        operator=profile.operator.id,
        gateway=profile.gateway,
        agent=profile.agent,
        now_ms=profile.now_ms(),
    )
    return StatusBoard(first, engines=pool.statuses, now_ms=profile.now_ms, write=profile.show)


def _first(error: BaseException) -> PinaivuError:
    """What a session ended by; when its end reached several tasks at once, one of them tells enough."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, PinaivuError)
    return error
