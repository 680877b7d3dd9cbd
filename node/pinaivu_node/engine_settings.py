"""What an operator can set about one engine: where it is, which models it offers, for how much, how many at once."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pinaivu_node.engines.access import EngineSetup
from pinaivu_node.engines.capabilities import parse_wishes
from pinaivu_node.engines.choice import EngineChoice, parse_engine
from pinaivu_node.tariff import Prices, Tariff
from pinaivu_shared.errors import CallerError


def with_underscores(table: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a table as the fields are named; ValueError for one that is given in both spellings."""
    spelled = {key.replace("-", "_"): value for key, value in table.items()}
    if len(spelled) < len(table):
        raise ValueError("a key is given twice, once with - and once with _")
    return spelled


def _split(value: object) -> object:
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def _distinct(entries: tuple[str, ...]) -> tuple[str, ...]:
    names = [offered_name(entry) for entry in entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(twice)} is named twice")
    return entries


def _checked_wishes(entries: tuple[str, ...]) -> tuple[str, ...]:
    parse_wishes(entries)
    return entries


ListedPrice = Annotated[int, Field(ge=1, le=2**40)]
PrintableName = Annotated[str, Field(pattern=r"^[!-~]{1,255}$")]
OfferedModels = Annotated[tuple[PrintableName, ...], BeforeValidator(_split), AfterValidator(_distinct)]
CapabilityWishes = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_checked_wishes)]
SlotCount = Annotated[int, Field(ge=0, le=65536)]
OwnSlots = Annotated[int, Field(ge=1, le=65536)]
ContextLength = Annotated[int, Field(ge=0, le=2**31)]


def offered_name(entry: str) -> str:
    """The name in the market of an entry `NAME` or `NAME=ENGINE'S NAME`."""
    return entry.partition("=")[0]


class Table(BaseModel):
    """A table of the configuration file; its keys may be written with - or _."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, value: object) -> object:
        return with_underscores(value) if isinstance(value, dict) else value


class PriceSettings(Table):
    """Prices of a single model, in micro-USDC per million tokens."""

    input_price: ListedPrice
    output_price: ListedPrice


class EngineSettings(Table):
    """One engine. Prices that are not set are those of the node, 0 slots means the engine's default.

    `models` has entries `NAME` or `NAME=ENGINE'S NAME`, none for all that the engine has. The models share `slots`: the
    quotes of one engine never promise more together, because each job declined as busy costs quality. `model_slots`
    gives single models a part of their own, the others share the rest evenly.
    """

    engine: str
    models: OfferedModels = ()
    api_key_file: Path | None = None
    slots: SlotCount = 0
    context_length: ContextLength = 0
    capabilities: CapabilityWishes = ()
    input_price: ListedPrice | None = None
    output_price: ListedPrice | None = None
    prices: dict[PrintableName, PriceSettings] = {}
    model_slots: dict[PrintableName, OwnSlots] = {}

    def choice(self) -> EngineChoice:
        """The engine; CallerError when there is none of this name."""
        return parse_engine(self.engine)

    def offered(self) -> tuple[str, ...]:
        """The names of its models where they are given."""
        return tuple(map(offered_name, self.models))

    def setup(self, api_key: str = "") -> EngineSetup:
        """What it is started with. The key is that of the file, where there is one; CallerError when unreadable."""
        choice = self.choice()
        if self.api_key_file is not None:
            try:
                api_key = self.api_key_file.read_text("ascii").strip()
            except (OSError, ValueError) as error:
                raise CallerError(f"engine's API key: {error}") from error
        return EngineSetup(
            choice=choice,
            slots=self.slots or choice.default_slots,
            api_key=api_key,
            models={offered_name(entry): entry.partition("=")[2] or offered_name(entry) for entry in self.models},
            context_length=self.context_length,
            wishes=parse_wishes(self.capabilities),
        )

    def tariff(self, *, input_price: int | None, output_price: int | None) -> Tariff:
        """What its models are sold for, given the node's prices; ValueError when there is no price or slot for one."""
        common = (self.input_price or input_price, self.output_price or output_price)
        if common[0] is None or common[1] is None:
            raise ValueError("input_price and output_price: set them for the node, or in each of [[engines]]")
        tariff = Tariff(
            input_price=common[0],
            output_price=common[1],
            slots=self.slots or self.choice().default_slots,
            model_prices={
                name: Prices(input_price=own.input_price, output_price=own.output_price)
                for name, own in self.prices.items()
            },
            model_slots=dict(self.model_slots),
        )
        self._check_names(tariff)
        self._check_slots(tariff)
        return tariff

    def _check_names(self, tariff: Tariff) -> None:
        if self.models and (unknown := sorted(tariff.own_terms() - set(self.offered()))):
            raise ValueError(
                f"engine {self.engine}: {', '.join(unknown)} has a price or slots, but is not in its models"
            )

    def _check_slots(self, tariff: Tariff) -> None:
        needed = sum(tariff.model_slots.values()) + len(set(self.offered()) - tariff.model_slots.keys())
        if needed > tariff.slots:
            raise ValueError(
                f"engine {self.engine}: {tariff.slots} slots are too few, its models share them and need {needed}"
            )


def check_distinct_models(engines: Iterable[EngineSettings]) -> None:
    """ValueError when two engines offer one model, as far as names are given."""
    owners: dict[str, str] = {}
    for engine in engines:
        for name in engine.offered():
            if name in owners:
                raise ValueError(f"model {name} is offered by two engines, {owners[name]} and {engine.engine}")
            owners[name] = engine.engine
