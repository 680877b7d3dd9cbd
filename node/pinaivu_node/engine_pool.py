"""All engines of a node: who can run which model now, and for what.

A model has one engine. Two that offer the same one are a mistake of the operator's: where names are given, the
settings refuse it; where an engine is asked for all it has, it shows only now, and the first ready engine counts.
"""

import logging
from collections.abc import Callable, Sequence

import msgspec
import trio

from pinaivu_node.change import Change
from pinaivu_node.engines.discovery import ServedModel
from pinaivu_node.engines.events import EngineError
from pinaivu_node.engines.openai import OpenAIEngine
from pinaivu_node.engines.supervisor import EngineSupervisor
from pinaivu_node.status import EngineStatus
from pinaivu_node.tariff import ForSale, Tariff, for_sale
from pinaivu_shared.configuration import Configuration

logger = logging.getLogger(__name__)


class Served(msgspec.Struct, frozen=True):
    """A model that can be run now, and where: `number` counts the node's engines from 0, `slots` are all it has."""

    number: int
    slots: int
    engine: OpenAIEngine
    model: ServedModel
    report: Callable[[EngineError], None]


class EnginePool:
    """Runs engines, each with its tariff. `change` is announced when an engine comes, goes or costs something else."""

    def __init__(self, supervisors: Sequence[EngineSupervisor], tariffs: Sequence[Tariff], change: Change) -> None:
        """One tariff for each supervisor; `change` is that of the supervisors too."""
        assert len(supervisors) == len(tariffs)
        self._supervisors, self._tariffs, self.change = tuple(supervisors), tuple(tariffs), change
        self._warned: set[tuple[str, str]] = set()
        self._unquoted: dict[str, str] = {}

    async def run(self) -> None:
        """Keep the engines running until cancelled."""
        async with trio.open_nursery() as nursery:
            for supervisor in self._supervisors:
                nursery.start_soon(supervisor.run)

    def set_tariffs(self, tariffs: Sequence[Tariff]) -> None:
        """Ask something else from now on; jobs that run keep what they were awarded."""
        assert len(tariffs) == len(self._tariffs)
        self._tariffs = tuple(tariffs)
        self.change.announce()

    def serving(self, name: str) -> Served | None:
        """Who runs the model that is offered under this name, None while nobody does."""
        for number, supervisor in enumerate(self._supervisors):
            model = supervisor.offering.model(name) if supervisor.offering else None
            if supervisor.offering and model:
                slots = self._tariffs[number].slots
                return Served(number, slots, supervisor.offering.engine, model, supervisor.report)
        return None

    def for_sale(self, configuration: Configuration) -> list[ForSale]:
        """What each ready engine has to quote in this market; what it has not is told in `statuses` from then on."""
        sales, taken = [], set[str]()
        for supervisor, tariff in zip(self._supervisors, self._tariffs, strict=True):
            if supervisor.offering is None:
                continue
            models = supervisor.offering.models
            for name in sorted({model.name for model in models} & taken):
                self._warn("model is offered by an earlier engine too, which serves it", supervisor, name)
            for name in sorted(tariff.own_terms() - {model.name for model in models}):
                self._warn("price or slots for a model that the engine does not have", supervisor, name)
            sales.append(for_sale([model for model in models if model.name not in taken], tariff, configuration))
            taken |= {model.name for model in models}
        self._unquoted = {name: reason for sale in sales for name, reason in _unquoted(sale).items()}
        return sales

    def statuses(self) -> tuple[EngineStatus, ...]:
        """Each engine, the models that it has ready, and why some of them are not quoted."""
        return tuple(self._status(one) for one in self._supervisors)

    def _status(self, supervisor: EngineSupervisor) -> EngineStatus:
        models = supervisor.offering.models if supervisor.offering else ()
        ready = tuple(model.name for model in models)
        unquoted = {name: self._unquoted[name] for name in sorted(ready) if name in self._unquoted}
        capabilities = {model.name: model.capabilities for model in models}
        return EngineStatus(supervisor.label, ready, unquoted, capabilities)

    def _warn(self, event: str, supervisor: EngineSupervisor, model: str) -> None:
        """Say it once, not at each renewal of the quotes."""
        if (event, model) not in self._warned:
            self._warned.add((event, model))
            logger.warning(event, extra={"kv": {"engine": supervisor.label, "model": model}})


def _unquoted(sale: ForSale) -> dict[str, str]:
    return {**sale.unlisted, **dict.fromkeys(sale.without_slot, "no slot is left for it")}
