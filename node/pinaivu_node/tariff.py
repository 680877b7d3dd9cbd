"""What one engine is sold for, and how its slots become those of quotes.

The enclave counts running jobs per node and model, an engine runs requests of all its models side by side. Were each
model quoted with all slots of its engine, the market would send as many times too many jobs as there are models, and
each "busy" costs the node quality. So the quotes of one engine share its slots: never more are quoted than it has.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from pinaivu_node.engines.discovery import ServedModel
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.report import first_names
from pinaivu_shared.terms import Capabilities

_NAMES_SHOWN: Final = 10
_RENAME: Final = "offer it as NAME=ENGINE'S NAME (--engine-models)"


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """Micro-USDC per million tokens."""

    input_price: int
    output_price: int


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator asks for the models of one engine, and how many requests it runs at once.

    `model_prices` and `model_slots` are for single models; the slots in the latter are at most `slots` together.
    """

    input_price: int
    output_price: int
    slots: int
    model_prices: Mapping[str, Prices] = {}
    model_slots: Mapping[str, int] = {}

    def prices(self, model: str) -> Prices:
        """What this model costs."""
        common = Prices(input_price=self.input_price, output_price=self.output_price)
        return self.model_prices.get(model, common)

    def own_terms(self) -> frozenset[str]:
        """The models that the operator named here."""
        return frozenset(self.model_prices) | frozenset(self.model_slots)


class QuoteTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a quote says beside who says it and for how long."""

    model: str
    input_price: int
    output_price: int
    slots: int
    context_length: int
    capabilities: Capabilities


class ForSale(msgspec.Struct, frozen=True):
    """What to quote, and the models that cannot be: those the market does not buy, and why, or without a slot."""

    terms: tuple[QuoteTerms, ...]
    unlisted: Mapping[str, str]
    without_slot: tuple[str, ...]


def for_sale(models: Sequence[ServedModel], tariff: Tariff, configuration: Configuration) -> ForSale:
    """The terms for each model of one engine in this market. What the market does not buy takes no slots."""
    reasons = {model.name: _why_unlisted(model.name, tariff.prices(model.name), configuration) for model in models}
    listed = [model for model in models if not reasons[model.name]]
    shares = split_slots(tariff.slots, [model.name for model in listed], tariff.model_slots)
    return ForSale(
        tuple(_terms(model, tariff, shares[model.name]) for model in listed if model.name in shares),
        {name: reason for name, reason in sorted(reasons.items()) if reason},
        tuple(sorted({model.name for model in listed} - shares.keys())),
    )


def split_slots(slots: int, models: Iterable[str], own: Mapping[str, int]) -> dict[str, int]:
    """Slots by model, at most `slots` together: those of `own`, and the rest in equal parts.

    Odd ones go to the first by name, whatever order the engine lists its models in. A model for which none is left is
    not in the result.
    """
    names = sorted(models)
    shares = {name: own[name] for name in names if name in own}
    others = [name for name in names if name not in own]
    left = slots - sum(shares.values())
    assert left >= 0, "settings let nobody give away more than there is"
    for place, name in enumerate(others):
        if share := left // len(others) + (place < left % len(others)):
            shares[name] = share
    return shares


def _why_unlisted(model: str, prices: Prices, configuration: Configuration) -> str:
    """Why no quote at these prices can win; empty where the market lists the model, and at no less."""
    listed = configuration.model(model)
    if listed is None:
        return f"the market does not list it, but {_names(configuration)}: if it is one of them, {_RENAME}"
    compared = (
        ("input", prices.input_price, listed.input_reserve_price),
        ("output", prices.output_price, listed.output_reserve_price),
    )
    above = (f"{name} price {own} is above the list price {most}" for name, own, most in compared if own > most)
    return ", ".join(above)


def _names(configuration: Configuration) -> str:
    names = [terms.model for terms in configuration.models]
    return f"{first_names(names, _NAMES_SHOWN)} (GET /v1/pricing)"


def _terms(model: ServedModel, tariff: Tariff, slots: int) -> QuoteTerms:
    prices = tariff.prices(model.name)
    return QuoteTerms(
        model=model.name,
        input_price=prices.input_price,
        output_price=prices.output_price,
        slots=slots,
        context_length=model.context_length,
        capabilities=model.capabilities,
    )
