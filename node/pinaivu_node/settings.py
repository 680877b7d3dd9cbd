"""What an operator can set: flags over environment over the configuration file over defaults."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator

from pinaivu_node.engine_settings import (
    CapabilityWishes,
    ContextLength,
    EngineSettings,
    ListedPrice,
    OfferedModels,
    SlotCount,
    Table,
    check_distinct_models,
    with_underscores,
)
from pinaivu_node.engines.access import EngineSetup
from pinaivu_node.gateway_url import websocket_url
from pinaivu_node.setting_errors import told
from pinaivu_node.tariff import Tariff
from pinaivu_shared.errors import CallerError

_OF_ONE_ENGINE: Final = (
    *("engine", "engine_models", "engine_api_key", "engine_api_key_file"),
    *("slots", "context_length", "engine_capabilities"),
)


def default_data_dir() -> Path:
    """Where a node keeps its key unless told otherwise."""
    return Path.home() / ".pinaivu" / "node"


class NodeSettings(Table):
    """All settings of `pinaivu node run`. Prices are micro-USDC per million tokens; 0 slots means the engine's default.

    A node with one engine sets it here, by flag if it likes; one with several lists them as `engines`, in the file.
    Either way `all_engines` has them. The prices here are for engines that have none of their own.
    """

    gateway: str
    trust: Path
    data_dir: Path = Field(default_factory=default_data_dir)
    operator: Annotated[str, Field(pattern="^[!-?A-~]{1,31}$")]
    fleet_key_file: Path | None = None
    input_price: ListedPrice | None = None
    output_price: ListedPrice | None = None
    engine: str = "embedded"
    engine_models: OfferedModels = ()
    engine_api_key: SecretStr = SecretStr("")
    engine_api_key_file: Path | None = None
    slots: SlotCount = 0
    context_length: ContextLength = 0
    engine_capabilities: CapabilityWishes = ()
    engines: tuple[EngineSettings, ...] = ()
    quote_lifetime: Annotated[int, Field(ge=2, le=86_400)] = 60
    drain_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"

    @field_validator("gateway")
    @classmethod
    def _websocket(cls, value: str) -> str:
        """The gateway's URL as that of its WebSocket endpoint."""
        return websocket_url(value)

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.engine_api_key_file is not None and self.engine_api_key.get_secret_value():
            raise ValueError("give the engine's API key by environment or by file, not by both")
        return self

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Self:
        if self.engines and (mixed := [name for name in _OF_ONE_ENGINE if name in self.model_fields_set]):
            raise ValueError(
                f"{', '.join(mixed)}: the file has [[engines]], so set it there; beside them (as a key of the file, "
                "a flag or a variable) it is for a node with one engine"
            )
        return self

    @model_validator(mode="after")
    def _sellable(self) -> Self:
        check_distinct_models(self.all_engines())
        self.tariffs()
        return self

    def all_engines(self) -> tuple[EngineSettings, ...]:
        """The engines, at least one."""
        alone = EngineSettings(
            engine=self.engine,
            models=self.engine_models,
            api_key_file=self.engine_api_key_file,
            slots=self.slots,
            context_length=self.context_length,
            capabilities=self.engine_capabilities,
        )
        return self.engines or (alone,)

    def engine_setups(self) -> tuple[EngineSetup, ...]:
        """What each engine is started with; CallerError for one that there is none of, or an unreadable key."""
        key = self.engine_api_key.get_secret_value()
        return tuple(engine.setup(key) for engine in self.all_engines())

    def tariffs(self) -> tuple[Tariff, ...]:
        """What each engine's models are sold for."""
        common = {"input_price": self.input_price, "output_price": self.output_price}
        return tuple(engine.tariff(**common) for engine in self.all_engines())


def load_settings(given: Mapping[str, str], file: Path | None) -> NodeSettings:
    """Settings from what was given by flag or environment, over those of a TOML file; CallerError names the field."""
    try:
        values: dict[str, Any] = tomllib.loads(file.read_text("utf-8")) if file is not None else {}
        return NodeSettings.model_validate({**with_underscores(values), **given})
    except ValidationError as error:
        raise CallerError(told(error, NodeSettings.model_fields, EngineSettings.model_fields)) from error
    except (OSError, ValueError) as error:
        raise CallerError(f"configuration file {file}: {error}") from error
