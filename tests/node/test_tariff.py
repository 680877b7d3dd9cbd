"""What an engine is sold for: a price for each model, and slots that its models share."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_node.engines.discovery import ServedModel
from pinaivu_node.tariff import Prices, Tariff, for_sale, split_slots

from .market import CONFIGURATION, MODELS, TARIFF

NAMES = st.lists(st.text("abcdef", min_size=1, max_size=3), unique=True, max_size=8)


def served(*names: str) -> list[ServedModel]:
    return [ServedModel(name, name, 4096, capabilities=("chat",), extras={}) for name in names]


def slots_of(tariff: Tariff, *names: str) -> dict[str, int]:
    return {terms.model: terms.slots for terms in for_sale(served(*names), tariff, CONFIGURATION).terms}


@given(NAMES, st.integers(1, 20), st.data())
def test_the_quotes_of_one_engine_never_promise_more_than_it_has(
    names: list[str], slots: int, data: st.DataObject
) -> None:
    own: dict[str, int] = {}
    for name in names:
        if (left := slots - sum(own.values())) and data.draw(st.booleans()):
            own[name] = data.draw(st.integers(1, left))
    shares = split_slots(slots, names, own)
    others = [shares.get(name, 0) for name in names if name not in own]
    assert min(shares.values(), default=1) >= 1
    assert {name: shares[name] for name in own} == own
    assert sum(shares.values()) == (slots if others else sum(own.values()))
    assert max(others, default=0) - min(others, default=0) <= 1
    assert split_slots(slots, reversed(names), own) == shares


def test_models_that_the_market_does_not_buy_take_no_slots() -> None:
    sale = for_sale(served("unheard-of", MODELS[0]), TARIFF, CONFIGURATION)
    names = ", ".join(MODELS)
    reason = f"the market does not list it, but {names} (GET /v1/pricing): if it is one of them, offer it as"
    assert sale.unlisted == {"unheard-of": f"{reason} NAME=ENGINE'S NAME (--engine-models)"}
    assert [terms.slots for terms in sale.terms] == [TARIFF.slots]


def test_of_a_market_of_many_models_ten_are_named() -> None:
    (one, *_) = CONFIGURATION.models
    many = tuple(msgspec.structs.replace(one, model=f"m{number:02}") for number in range(12))
    sale = for_sale(served("unheard-of"), TARIFF, msgspec.structs.replace(CONFIGURATION, models=many))
    assert "m08, m09 and 2 more (GET /v1/pricing)" in sale.unlisted["unheard-of"]


def test_a_model_without_a_slot_is_not_quoted_and_said() -> None:
    sale = for_sale(served(*MODELS), TARIFF, CONFIGURATION)
    assert {terms.model for terms in sale.terms} == set(sorted(MODELS)[:2])
    assert sale.without_slot == tuple(sorted(MODELS)[2:])


def test_a_model_may_have_slots_of_its_own_and_the_rest_is_shared() -> None:
    tariff = msgspec.structs.replace(TARIFF, slots=8, model_slots={MODELS[0]: 5})
    assert slots_of(tariff, *MODELS) == {MODELS[0]: 5, MODELS[1]: 2, MODELS[2]: 1}


def test_a_model_may_have_prices_of_its_own() -> None:
    own = Prices(input_price=7, output_price=8)
    tariff = msgspec.structs.replace(TARIFF, model_prices={MODELS[1]: own})
    sale = for_sale(served(*MODELS[:2]), tariff, CONFIGURATION)
    assert {terms.model: (terms.input_price, terms.output_price) for terms in sale.terms} == {
        MODELS[0]: (TARIFF.input_price, TARIFF.output_price),
        MODELS[1]: (7, 8),
    }


@pytest.mark.parametrize(
    ("input_price", "output_price", "reason"),
    [
        (1001, 2000, "input price 1001 is above the list price 1000"),
        (1000, 2001, "output price 2001 is above the list price 2000"),
        (1002, 2002, "input price 1002 is above the list price 1000, output price 2002 is above the list price 2000"),
    ],
)
def test_a_model_whose_own_price_is_above_the_list_price_is_not_quoted_and_said_why(
    input_price: int, output_price: int, reason: str
) -> None:
    own = Prices(input_price=input_price, output_price=output_price)
    tariff = msgspec.structs.replace(TARIFF, model_prices={MODELS[0]: own})
    sale = for_sale(served(*MODELS[:2]), tariff, CONFIGURATION)
    assert sale.unlisted == {MODELS[0]: reason}
    assert [terms.model for terms in sale.terms] == [MODELS[1]]
