"""Several engines in the configuration file: what each may have, and every way to write what cannot be meant."""

from pathlib import Path

import pytest

from pinaivu_node.engines.capabilities import Wishes
from pinaivu_node.settings import NodeSettings, load_settings
from pinaivu_node.tariff import Prices
from pinaivu_shared.errors import CallerError

NEEDED = {"gateway": "http://127.0.0.1:8080", "trust": "trust.json", "operator": "alice"}
PRICED = {**NEEDED, "input_price": "100", "output_price": "200"}
TWO_ENGINES = """
[[engines]]
engine = "http://127.0.0.1:11434"
models = ["llama3.2:1b", "big=meta/llama-70b"]
slots = 4
context-length = 2048
capabilities = ["+tools", "-logprobs"]
output_price = 900

[engines.prices."llama3.2:1b"]
input-price = 7
output-price = 8

[engines.model-slots]
big = 1

[[engines]]
engine = "echo"
"""


def load(tmp_path: Path, content: str, given: dict[str, str] = PRICED) -> NodeSettings:
    file = tmp_path / "node.toml"
    file.write_text(content)
    return load_settings(given, file)


def test_a_file_may_list_several_engines(tmp_path: Path) -> None:
    settings = load(tmp_path, TWO_ENGINES)
    first, second = settings.engine_setups()
    assert first.choice.label == "http://127.0.0.1:11434"
    assert first.models == {"llama3.2:1b": "llama3.2:1b", "big": "meta/llama-70b"}
    assert (first.slots, first.context_length) == (4, 2048)
    assert first.wishes == Wishes(more=frozenset({"tools"}), fewer=frozenset({"logprobs"}))
    assert (second.choice.label, second.models, second.slots, second.wishes) == ("echo", {}, 1024, Wishes())


def test_an_engine_may_have_prices_of_its_own_and_its_models_too(tmp_path: Path) -> None:
    first, second = load(tmp_path, TWO_ENGINES).tariffs()
    assert first.prices("big") == Prices(input_price=100, output_price=900)
    assert first.prices("llama3.2:1b") == Prices(input_price=7, output_price=8)
    assert (first.slots, first.model_slots) == (4, {"big": 1})
    assert second.prices("echo") == Prices(input_price=100, output_price=200)


def test_the_node_needs_no_price_when_every_engine_has_its_own(tmp_path: Path) -> None:
    priced = '[[engines]]\nengine = "echo"\ninput-price = 1\noutput-price = 2\n'
    tariff = load(tmp_path, priced, NEEDED).tariffs()[0]
    assert (tariff.input_price, tariff.output_price) == (1, 2)
    with pytest.raises(CallerError, match="input_price and output_price"):
        load(tmp_path, f'{priced}[[engines]]\nengine = "embedded"\ninput-price = 1\n', NEEDED)


def test_the_key_of_each_engine_comes_from_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    settings = load(
        tmp_path,
        f'[[engines]]\nengine = "http://a"\napi-key-file = "{tmp_path}/key"\n[[engines]]\nengine = "http://b"\n',
    )
    assert [setup.api_key for setup in settings.engine_setups()] == ["secret", ""]
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    "name", ["engine", "engine_models", "engine_api_key", "slots", "context_length", "engine_capabilities"]
)
def test_settings_of_one_engine_do_not_go_with_a_list_of_several(tmp_path: Path, name: str) -> None:
    value = {"engine": "echo", "engine_models": "a", "engine_capabilities": "+tools"}.get(name, "1")
    with pytest.raises(CallerError, match=rf"^{name}: the file has \[\[engines\]\]"):
        load(tmp_path, TWO_ENGINES, {**PRICED, name: value})
    quoted = value if value.isdigit() and name != "engine_api_key" else f'"{value}"'
    with pytest.raises(CallerError, match=rf"^{name}: the file has \[\[engines\]\]"):
        load(tmp_path, f"{name} = {quoted}\n{TWO_ENGINES}")


ONE = '[[engines]]\nengine = "http://a"\n'
WRONG: dict[str, tuple[str, str]] = {
    "one model of two engines": (
        f'{ONE}models = ["m"]\n[[engines]]\nengine = "echo"\nmodels = ["m=echo"]\n',
        "model m is offered by two engines, http://a and echo",
    ),
    "one model twice": (f'{ONE}models = ["m", "m=n"]\n', "engines.0.models: m is named twice"),
    "no engine": ("[[engines]]\nslots = 1\n", "engines.0.engine: Field required"),
    "no such engine": ('[[engines]]\nengine = "ehco"\n', "engine 'ehco'"),
    "no such capability": (f'{ONE}capabilities = ["+tool"]\n', "engines.0.capabilities: +tool: write + or - before"),
    "no sign": (f'{ONE}capabilities = ["tools"]\n', "engines.0.capabilities: tools: write + or - before"),
    "a capability more and less": (f'{ONE}capabilities = "+tools,-tools"\n', "tools is both added and taken away"),
    "unknown key": (f"{ONE}slot = 1\n", "engines.0.slot"),
    "a key in the file itself": (f'{ONE}api-key = "x"\n', "engines.0.api_key"),
    "half a price": (f'{ONE}[engines.prices."a-b"]\ninput-price = 1\n', "engines.0.prices.a-b.output_price"),
    "a price of nothing": (f"{ONE}input-price = 0\n", "engines.0.input_price"),
    "a price for another model": (
        f'{ONE}models = ["m"]\n[engines.prices.n]\ninput-price = 1\noutput-price = 1\n',
        "engine http://a: n has a price or slots, but is not in its models",
    ),
    "slots for another model": (f'{ONE}models = ["m"]\n[engines.model-slots]\nn = 1\n', "n has a price or slots"),
    "no slot of its own": (f"{ONE}[engines.model-slots]\nn = 0\n", "engines.0.model_slots.n"),
    "more own slots than there are": (f"{ONE}slots = 2\n[engines.model-slots]\nm = 3\n", "2 slots are too few"),
    "fewer slots than models": (f'{ONE}slots = 2\nmodels = ["a", "b", "c"]\n', "2 slots are too few"),
    "none left for the rest": (
        f'{ONE}slots = 2\nmodels = ["a", "b"]\n[engines.model-slots]\na = 2\n',
        "2 slots are too few, its models share them and need 3",
    ),
    "both spellings": (f"{ONE}api-key-file = 'a'\napi_key_file = 'b'\n", "engines.0: a key is given twice"),
    "both spellings above": ("input-price = 1\ninput_price = 2\n", "a key is given twice"),
    "a table where a list belongs": ("[engines]\nengine = 'echo'\n", "engines"),
}


@pytest.mark.parametrize(("content", "told"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_meant_is_refused_and_named(tmp_path: Path, content: str, told: str) -> None:
    with pytest.raises(CallerError) as caught:
        load(tmp_path, content)
    assert told in str(caught.value)


def test_one_engine_by_flags_needs_a_slot_for_each_model_too() -> None:
    with pytest.raises(CallerError, match="2 slots are too few"):
        load_settings({**PRICED, "engine": "http://a", "engine_models": "a,b,c", "slots": "2"}, None)


def test_one_engine_by_flags_may_be_given_capabilities_too() -> None:
    (setup,) = load_settings(
        {**PRICED, "engine": "http://a", "engine_capabilities": "-images, +tools"}, None
    ).engine_setups()
    assert setup.wishes == Wishes(more=frozenset({"tools"}), fewer=frozenset({"images"}))
