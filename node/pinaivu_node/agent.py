"""The agent: one session after another until the node drains, and an engine that lives on between them."""

import logging
from collections.abc import Callable

import trio

from pinaivu_node.back_off import BackOff
from pinaivu_node.connection import Dial
from pinaivu_node.engines.supervisor import EngineSupervisor
from pinaivu_node.session import NodeProfile, Session
from pinaivu_shared.errors import PeerError, PinaivuError, VerificationError

logger = logging.getLogger(__name__)


class Agent:
    """A node at work. `run` it, and `drain` it once."""

    def __init__(
        self, profile: NodeProfile, supervisor: EngineSupervisor, dial: Dial, jitter: Callable[[], float]
    ) -> None:
        """`dial` opens a connection to the gateway; `jitter` gives numbers from 0 to 1, for the pauses."""
        self._profile, self._supervisor, self._dial = profile, supervisor, dial
        self._back_off = BackOff(jitter)
        self._draining = trio.Event()
        self._attempt, self._serving = trio.CancelScope(), False

    def drain(self) -> None:
        """Take no new jobs, finish those running, then leave. Without a session there is nothing to finish."""
        self._draining.set()
        if not self._serving:
            self._attempt.cancel()

    async def run(self) -> None:
        """Work until drained."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._supervisor.run)
            while not self._draining.is_set():
                with trio.CancelScope() as self._attempt:
                    await self._hold_session()
                    if not self._draining.is_set():
                        await trio.sleep(self._back_off.next_pause())
            nursery.cancel_scope.cancel()
        logger.info("node has left", extra={"kv": {"node_id": self._profile.identity.node_id}})

    async def _hold_session(self) -> None:
        """Hold one session for as long as it lasts."""
        try:
            async with self._dial() as connection:
                session = Session(
                    connection,
                    self._profile,
                    self._supervisor,
                    draining=self._draining,
                    prospered=self._back_off.reset,
                )
                market = await session.register()
                logger.info("registered", extra={"kv": {"session": market.session}})
                self._serving = True
                await session.serve(market)
        except* (PeerError, VerificationError) as group:
            error = _first(group)
            logger.warning("session ended", extra={"kv": {"code": error.code, "detail": str(error)}})
        finally:
            self._serving = False


def _first(error: BaseException) -> PinaivuError:
    """What a session ended by; when its end reached several tasks at once, one of them tells enough."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, PinaivuError)
    return error
