"""What an operator can set: flags over environment over the configuration file over defaults."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from pinaivu_node.engines.access import EngineSetup
from pinaivu_node.engines.choice import parse_engine
from pinaivu_shared.errors import CallerError
from pinaivu_shared.wire.node import NODE_PATH

_WEBSOCKET_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
ListedPrice = Annotated[int, Field(ge=1, le=2**40)]
PrintableName = Annotated[str, Field(pattern=r"^[!-~]{1,255}$")]


def default_data_dir() -> Path:
    """Where a node keeps its key unless told otherwise."""
    return Path.home() / ".pinaivu" / "node"


class NodeSettings(BaseModel):
    """All settings of `pinaivu node run`. Prices are micro-USDC per million tokens; 0 slots means the engine's default.

    `engine_models` has entries `NAME` or `NAME=ENGINE'S NAME`, none for all that the engine has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gateway: str
    trust: Path
    data_dir: Path = Field(default_factory=default_data_dir)
    operator: PrintableName
    input_price: ListedPrice
    output_price: ListedPrice
    engine: str = "embedded"
    engine_models: tuple[PrintableName, ...] = ()
    engine_api_key: SecretStr = SecretStr("")
    engine_api_key_file: Path | None = None
    slots: Annotated[int, Field(ge=0, le=65536)] = 0
    context_length: Annotated[int, Field(ge=0, le=2**31)] = 0
    quote_lifetime: Annotated[int, Field(ge=2, le=86_400)] = 60
    drain_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"

    @field_validator("engine_models", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("gateway")
    @classmethod
    def _websocket(cls, value: str) -> str:
        """The gateway's URL as that of its WebSocket endpoint."""
        url = urlsplit(value)
        if url.scheme not in _WEBSOCKET_SCHEMES or not url.hostname or url.query or url.fragment or url.username:
            raise ValueError("expected an http(s):// or ws(s):// URL without user, query and fragment")
        path = url.path.rstrip("/").removesuffix(NODE_PATH)
        return f"{_WEBSOCKET_SCHEMES[url.scheme]}://{url.netloc}{path}{NODE_PATH}"

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.engine_api_key_file is not None and self.engine_api_key.get_secret_value():
            raise ValueError("give the engine's API key by environment or by file, not by both")
        return self

    def engine_setup(self) -> EngineSetup:
        """What the engine is started with; CallerError for an engine that there is none of, or an unreadable key."""
        choice = parse_engine(self.engine)
        key = self.engine_api_key.get_secret_value()
        if self.engine_api_key_file is not None:
            try:
                key = self.engine_api_key_file.read_text("ascii").strip()
            except (OSError, ValueError) as error:
                raise CallerError(f"engine's API key: {error}") from error
        offered = (entry.partition("=") for entry in self.engine_models)
        return EngineSetup(
            choice=choice,
            slots=self.slots or choice.default_slots,
            api_key=key,
            models={name: engine_name or name for name, _, engine_name in offered},
            context_length=self.context_length,
        )


def load_settings(given: Mapping[str, str], file: Path | None) -> NodeSettings:
    """Settings from what was given by flag or environment, over those of a TOML file; CallerError names the field."""
    try:
        values: dict[str, Any] = tomllib.loads(file.read_text("utf-8")) if file is not None else {}
        return NodeSettings.model_validate({**{_key(name): value for name, value in values.items()}, **given})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CallerError(f"configuration file {file}: {error}") from error
    except ValidationError as error:
        found = (f"{'.'.join(map(str, problem['loc'])) or 'settings'}: {problem['msg']}" for problem in error.errors())
        raise CallerError("; ".join(found)) from error


def _key(name: str) -> str:
    return name.replace("-", "_")
