"""What a changed configuration file can change while the node runs: prices and slots. Everything else wants a restart.

A file is taken whole or not at all, so that a node never runs on half of what its operator wrote.
"""

import logging
from collections.abc import Callable
from itertools import zip_longest
from typing import Final

from pinaivu_node.engine_settings import EngineSettings
from pinaivu_node.engines.choice import EmbeddedChoice
from pinaivu_node.settings import NodeSettings
from pinaivu_node.tariff import Tariff
from pinaivu_shared.errors import CallerError

OF_THE_NODE: Final = (
    *("gateway", "trust", "data_dir", "operator", "fleet_key_file", "engine_api_key"),
    *("quote_lifetime", "drain_seconds", "log_level"),
)
OF_AN_ENGINE: Final = ("engine", "models", "api_key_file", "context_length", "capabilities")
logger = logging.getLogger(__name__)


def reload_tariffs(
    started: NodeSettings, load: Callable[[], NodeSettings], take: Callable[[tuple[Tariff, ...]], None]
) -> None:
    """Take what `load` finds now; when it is wrong or wants a restart, keep all as it is and say why in the log.

    `started` is what the node was started with.
    """
    try:
        tariffs = _changed_tariffs(started, load())
    except CallerError as error:
        logger.warning("configuration not reloaded", extra={"kv": {"detail": str(error)}})
        return
    take(tariffs)
    logger.info("configuration reloaded")


def _changed_tariffs(started: NodeSettings, wanted: NodeSettings) -> tuple[Tariff, ...]:
    if fixed := fixed_changes(started, wanted):
        raise CallerError(f"needs a restart: {', '.join(fixed)}")
    return wanted.tariffs()


def fixed_changes(started: NodeSettings, wanted: NodeSettings) -> list[str]:
    """What differs and cannot be changed while the node runs, by the names that the operator gave it."""
    node = [name for name in OF_THE_NODE if getattr(started, name) != getattr(wanted, name)]
    engines = zip_longest(started.all_engines(), wanted.all_engines())
    return node + [f"{name} of engine {number}" for number, pair in enumerate(engines, 1) for name in _fixed(*pair)]


def _fixed(started: EngineSettings | None, wanted: EngineSettings | None) -> list[str]:
    if started is None or wanted is None:
        return ["presence"]
    fixed = [name for name in OF_AN_ENGINE if getattr(started, name) != getattr(wanted, name)]
    return fixed + (["slots"] if _outgrows(started, wanted) else [])


def _outgrows(started: EngineSettings, wanted: EngineSettings) -> bool:
    """Whether more slots are asked of the embedded engine than its process was started with."""
    choice = started.choice()
    default = choice.default_slots
    return isinstance(choice, EmbeddedChoice) and (wanted.slots or default) > (started.slots or default)
