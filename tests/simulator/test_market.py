"""The configuration of a simulated market: its models have the contexts that their engines really have."""

import pytest

from pinaivu_shared.configuration import CONTEXT_LENGTH_MAX, parse_configuration
from pinaivu_simulator.market import market_configuration
from pinaivu_simulator.network import context_of


@pytest.mark.parametrize(
    ("engine", "tokens"),
    [("embedded", 2048), ("echo", 131_072), ("echo:tokens=9", 131_072), ("http://127.0.0.1:11434", CONTEXT_LENGTH_MAX)],
)
def test_a_network_allows_what_its_engine_has(engine: str, tokens: int) -> None:
    raw = market_configuration("market.test/log", ["a", "b"], context_length_max=context_of(engine))
    assert [one.context_length_max for one in parse_configuration(raw).models] == [tokens, tokens]
