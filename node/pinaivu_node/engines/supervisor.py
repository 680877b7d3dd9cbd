"""Keeps an engine running and knows whether it is ready, whatever becomes of the connection to the gateway.

An engine is ready when every model offered has answered a tiny request. It stops being ready when its process
ends, when it refuses a connection or answers 503, or when its model list cannot be had; then it is started or probed
again, with growing pauses.
"""

import logging
from collections.abc import Callable
from typing import Final

import msgspec
import trio

from pinaivu_node.back_off import BackOff
from pinaivu_node.change import Change
from pinaivu_node.engines.access import Access, EngineSetup, engine_access
from pinaivu_node.engines.discovery import ServedModel, discover
from pinaivu_node.engines.events import EngineError
from pinaivu_node.engines.openai import OpenAIEngine

CHECK_SECONDS: Final = 10
_MAX_CONNECTIONS: Final = 65_536 + 4  # slots may be raised while the engine runs; the dispatch keeps to them
logger = logging.getLogger(__name__)


class Offering(msgspec.Struct, frozen=True):
    """A ready engine and its models."""

    engine: OpenAIEngine
    models: tuple[ServedModel, ...]

    def model(self, name: str) -> ServedModel | None:
        """The model offered under this name."""
        return next((model for model in self.models if model.name == name), None)


class EngineSupervisor:
    """Runs one engine. `offering` is None while it is not ready, `process` while no process of ours runs it."""

    def __init__(self, setup: EngineSetup, jitter: Callable[[], float], change: Change) -> None:
        """`jitter` gives numbers from 0 to 1, for the pauses; `change` is announced when `offering` changes."""
        self._setup, self._back_off, self.change = setup, BackOff(jitter), change
        self._trouble = trio.Event()
        self.label = setup.choice.label
        self.offering: Offering | None = None
        self.process: trio.Process | None = None

    def report(self, error: EngineError) -> None:
        """Tell of an error in a job: an engine that is down is not offered again before it passed a probe."""
        if error.down and self.offering is not None:
            self._set(None)
            self._trouble.set()

    async def run(self) -> None:
        """Keep the engine running until cancelled."""
        while True:
            try:
                async with engine_access(self._setup) as access:
                    await self._serve(access)
            except EngineError as error:
                logger.warning("engine did not start", extra={"kv": {"engine": self.label, "detail": error.detail}})
            await trio.sleep(self._back_off.next_pause())

    async def _serve(self, access: Access) -> None:
        """Offer the engine while its process runs."""
        self.process = access.process
        try:
            async with (
                OpenAIEngine(access.address, api_key=access.api_key, connections=_MAX_CONNECTIONS) as engine,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._offer, engine, access.json_grammar)
                if access.process is not None:
                    status = await access.process.wait()
                    logger.warning("engine process ended", extra={"kv": {"engine": self.label, "status": status}})
                    nursery.cancel_scope.cancel()
        finally:
            self.process = None
            self._set(None)

    async def _offer(self, engine: OpenAIEngine, json_grammar: str) -> None:
        """Offer the engine whenever it passes its probe, and until there is trouble."""
        while True:
            try:
                models = await discover(
                    engine,
                    wanted=self._setup.models,
                    context_length=self._setup.context_length,
                    wishes=self._setup.wishes,
                )
                self._trouble = trio.Event()
                asked = (msgspec.structs.replace(model, json_grammar=json_grammar) for model in models)
                self._set(Offering(engine, tuple(asked)))
                self._back_off.reset()
                await self._watch(engine)
            except EngineError as error:
                logger.warning("engine not ready", extra={"kv": {"engine": self.label, "detail": error.detail}})
            self._set(None)
            await trio.sleep(self._back_off.next_pause())

    async def _watch(self, engine: OpenAIEngine) -> None:
        """Return when a job reported trouble; EngineError when the engine stops answering by itself."""
        while True:
            with trio.move_on_after(CHECK_SECONDS):
                await self._trouble.wait()
                return
            await engine.get("/v1/models")

    def _set(self, offering: Offering | None) -> None:
        if offering is not None:
            contexts = {model.name: model.context_length for model in offering.models}
            capabilities = {model.name: model.capabilities for model in offering.models}
            told = {"engine": self.label, "models": contexts, "capabilities": capabilities}
            logger.info("engine ready", extra={"kv": told})
        if offering is not self.offering:
            self.offering = offering
            self.change.announce()
