"""Settings: flags over environment over file over defaults, and errors that name the field."""

from pathlib import Path

import pytest

from pinaivu_node.cli import node
from pinaivu_node.engines.choice import EmbeddedChoice
from pinaivu_node.settings import NodeSettings, load_settings
from pinaivu_shared.errors import CallerError
from pinaivu_shared.wire.node import NODE_PATH

NEEDED = {
    "gateway": "http://127.0.0.1:8080",
    "trust": "trust.json",
    "operator": "alice",
    "input_price": "100",
    "output_price": "200",
}


def load(**given: str) -> NodeSettings:
    return load_settings({**NEEDED, **given}, None)


@pytest.mark.parametrize(
    ("given", "dialled"),
    [
        ("http://127.0.0.1:8080", f"ws://127.0.0.1:8080{NODE_PATH}"),
        ("https://market.example", f"wss://market.example{NODE_PATH}"),
        ("wss://market.example/", f"wss://market.example{NODE_PATH}"),
        ("https://market.example/eu/", f"wss://market.example/eu{NODE_PATH}"),
        ("https://market.example/v1", f"wss://market.example{NODE_PATH}"),
        ("https://market.example/eu/v1/", f"wss://market.example/eu{NODE_PATH}"),
        (f"ws://127.0.0.1{NODE_PATH}", f"ws://127.0.0.1{NODE_PATH}"),
    ],
)
def test_the_gateway_may_be_given_as_a_web_address(given: str, dialled: str) -> None:
    assert load(gateway=given).gateway == dialled


@pytest.mark.parametrize(
    ("engine", "slots"), [("embedded", 16), ("echo", 1024), ("echo:tokens=1", 1024), ("http://127.0.0.1:1", 64)]
)
def test_slots_follow_the_engine_unless_set(engine: str, slots: int) -> None:
    assert load(engine=engine).engine_setups()[0].slots == slots
    assert load(engine=engine, slots="3").engine_setups()[0].slots == 3


def test_models_may_be_offered_under_other_names() -> None:
    setup = load(engine_models="a, llama3.2:1b=meta/llama").engine_setups()[0]
    assert setup.models == {"a": "a", "llama3.2:1b": "meta/llama"}


def test_the_file_is_read_with_either_spelling_and_flags_win(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('input-price = 1\noutput_price = 2\nengine-models = ["a"]\n')
    given = {name: value for name, value in NEEDED.items() if "price" not in name}
    settings = load_settings({**given, "output_price": "9"}, file)
    assert (settings.input_price, settings.output_price, settings.engine_models) == (1, 9, ("a",))
    assert isinstance(settings.engine_setups()[0].choice, EmbeddedChoice)


def test_the_engines_key_comes_by_file_or_environment_and_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret\n")
    assert load(engine_api_key_file=str(file)).engine_setups()[0].api_key == "secret"
    assert load(engine_api_key="secret").engine_setups()[0].api_key == "secret"
    assert "secret" not in repr(load(engine_api_key="secret"))
    with pytest.raises(CallerError, match="not by both"):
        load(engine_api_key="secret", engine_api_key_file=str(file))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gateway", "ftp://x"),
        ("gateway", "http://user@x"),
        ("input_price", "0"),
        ("output_price", "1.5"),
        ("operator", "two words"),
        ("slots", "70000"),
        ("quote_lifetime", "1"),
        ("log_level", "loud"),
        ("prot", "1"),
    ],
)
def test_a_wrong_value_is_named_by_its_field(field: str, value: str) -> None:
    with pytest.raises(CallerError, match=f"^(--)?{field.replace('_', '-')}: "):
        load(**{field: value})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("input-price = 0.02", "--input-price: expected whole micro-USDC per million tokens, 1 or more: 20000 is 0.02"),
        ('operator = "two words"', "--operator: expected 1 to 31 printable ASCII characters, no blanks and no @"),
        ('slots = "many"', "--slots: expected a whole number from 0 to 65536"),
        (
            'oprator = "alice"',
            "oprator: there is no such setting, did you mean operator?; --operator: missing; it is a",
        ),
        ("wholly-unknown = 1", "wholly_unknown: there is no such setting; --operator: missing"),
        ('[[engines]]\nengine = "echo"\nslotz = 1', "engines.0.slotz: there is no such setting, did you mean slots?"),
        ('[[engines]]\nengine = "echo"\ninput-price = 0.5', "engines.0.input_price: expected whole micro-USDC"),
        ('[[engines]]\nengine = "echo"\n[engines.model-slots]\nslots = 0', "engines.0.model_slots.slots: Input should"),
    ],
)
def test_a_wrong_setting_is_told_in_the_operators_words(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(content)
    kept = {name: value for name, value in NEEDED.items() if name not in {"operator", "input_price"}}
    with pytest.raises(CallerError) as caught:
        load_settings(kept, file)
    assert said in str(caught.value)


@pytest.mark.parametrize("content", ["not toml =", "unknown = 1", "engine-api-key-file = 7"])
def test_a_wrong_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(content)
    with pytest.raises(CallerError):
        load_settings(NEEDED, file)


def test_wrong_usage_ends_with_status_2_and_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert node(["run", "--data-dir", str(tmp_path), "--engine", "echo"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("pinaivu node: --gateway: missing; it is a flag, a key of the file or PINAIVU_GATEWAY; ")
    assert told.err.count("\n") == 1


def test_the_key_command_shows_the_identity_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert node(["key", "--data-dir", str(tmp_path)]) == 0
    first = capsys.readouterr()
    assert node(["key", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr() == (first.out, "")
    assert first.out.startswith('{"node_id": "node_')


def test_a_key_that_the_key_command_makes_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A mistyped --data-dir is a node of its own, with an id that nobody knows."""
    assert node(["key", "--data-dir", str(tmp_path / "typo")]) == 0
    assert capsys.readouterr().err == f"pinaivu node: made a new key, for a new node: {tmp_path}/typo/node.key\n"
