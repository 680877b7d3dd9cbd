"""SIGHUP: prices and slots are read again while jobs run; everything else waits for a restart, and says so."""

import signal
from functools import partial
from pathlib import Path

import pytest
import trio

from pinaivu_node.engine_settings import EngineSettings
from pinaivu_node.process import obey_hangups
from pinaivu_node.reload import OF_AN_ENGINE, OF_THE_NODE, fixed_changes, reload_tariffs
from pinaivu_node.settings import NodeSettings, load_settings
from pinaivu_node.tariff import Tariff

from .running import network

GIVEN = {"gateway": "http://127.0.0.1:8080", "trust": "trust.json", "operator": "alice", "input_price": "100"}
ENGINES = """
output-price = 200
[[engines]]
engine = "http://127.0.0.1:9"
slots = 2
[[engines]]
engine = "embedded"
slots = 4
"""


class File:
    """A configuration file that is changed while the node runs."""

    def __init__(self, folder: Path, content: str = ENGINES) -> None:
        self._path = folder / "node.toml"
        self.write(content)
        self.started = self.load()
        self.taken: list[tuple[Tariff, ...]] = []

    def write(self, content: str) -> None:
        self._path.write_text(content)

    def load(self) -> NodeSettings:
        return load_settings(GIVEN, self._path)

    def reload(self, content: str) -> None:
        self.write(content)
        reload_tariffs(self.started, self.load, self.taken.append)


def test_prices_and_slots_are_taken_from_the_changed_file(tmp_path: Path) -> None:
    file = File(tmp_path)
    file.reload(ENGINES.replace("output-price = 200", "output-price = 150").replace("slots = 2", "slots = 9"))
    assert [(tariff.output_price, tariff.slots) for tariff in file.taken[0]] == [(150, 9), (150, 4)]


def test_what_a_flag_says_stays_what_the_flag_says(tmp_path: Path) -> None:
    file = File(tmp_path)
    file.reload(f"input-price = 1\n{ENGINES}")
    assert [tariff.input_price for tariff in file.taken[0]] == [100, 100]


CHANGES = {
    "an engine more": (f'{ENGINES}[[engines]]\nengine = "echo"\n', "presence of engine 3"),
    "an engine less": ('output-price = 200\n[[engines]]\nengine = "http://127.0.0.1:9"\n', "presence of engine 2"),
    "another address": (ENGINES.replace(":9", ":10"), "engine of engine 1"),
    "other models": (ENGINES.replace("slots = 2", 'models = ["m"]'), "models of engine 1"),
    "another key": (ENGINES.replace("slots = 2", 'api-key-file = "k"'), "api_key_file of engine 1"),
    "another context": (ENGINES.replace("slots = 2", "context-length = 9"), "context_length of engine 1"),
    "another identity": (f'data-dir = "elsewhere"\n{ENGINES}', "data_dir"),
    "another lifetime": (f"quote-lifetime = 9\n{ENGINES}", "quote_lifetime"),
    "more than the embedded engine was started with": (ENGINES.replace("slots = 4", "slots = 5"), "slots of engine 2"),
}


@pytest.mark.parametrize(("content", "name"), CHANGES.values(), ids=CHANGES)
def test_a_file_that_wants_a_restart_changes_nothing(
    tmp_path: Path, content: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = File(tmp_path)
    file.reload(content.replace("output-price = 200", "output-price = 150"))
    assert not file.taken
    assert caplog.messages == ["configuration not reloaded"]
    assert name in fixed_changes(file.started, file.load())


@pytest.mark.parametrize("content", ["not toml =", "unknown = 1", ENGINES.replace("slots = 2", "slots = -1"), ""])
def test_a_wrong_file_changes_nothing_and_the_node_lives(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = File(tmp_path)
    file.reload(content)
    assert not file.taken
    assert caplog.messages == ["configuration not reloaded"]


def test_a_file_that_is_gone_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = File(tmp_path)
    (tmp_path / "node.toml").unlink()
    reload_tariffs(file.started, file.load, file.taken.append)
    assert not file.taken
    assert caplog.messages == ["configuration not reloaded"]


@pytest.mark.trio
async def test_a_hangup_posts_new_quotes_in_the_same_session(tmp_path: Path) -> None:
    file = File(tmp_path, 'output-price = 200\nengine = "http://127.0.0.1:9"\nslots = 2\n')
    async with network() as running:
        counter = await running.open()
        take = running.agent.set_tariffs
        async with trio.open_nursery() as nursery:
            await nursery.start(obey_hangups, partial(reload_tariffs, file.started, file.load, take))
            file.write('output-price = 150\nengine = "http://127.0.0.1:9"\nslots = 3\n')
            signal.raise_signal(signal.SIGHUP)
            quote, _ = await counter.gateway.quote()
            assert (quote.session, quote.output_price, quote.slots) == (counter.standing.session, 150, 3)
            nursery.cancel_scope.cancel()


def test_every_setting_is_either_read_again_or_wants_a_restart() -> None:
    """A new one belongs to one or the other; forgotten, it would be neither taken nor missed."""
    of_one_engine = {"engine_models", "engine_api_key_file", "engine", "slots", "context_length", "engine_capabilities"}
    assert set(NodeSettings.model_fields) == {*OF_THE_NODE, *of_one_engine, "engines", "input_price", "output_price"}
    reloadable = {"input_price", "output_price", "prices", "slots", "model_slots"}
    assert set(EngineSettings.model_fields) == {*OF_AN_ENGINE, *reloadable}
