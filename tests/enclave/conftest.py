"""A market for each test."""

import msgspec
import pytest

from .market import Market, Node


@pytest.fixture
def market() -> Market:
    return Market()


@pytest.fixture
def cheap(market: Market) -> Node:
    """A node that asks 20,000 / 60,000."""
    return Node(market, "cheap").register().quote(20_000, 60_000)


@pytest.fixture
def dear(market: Market) -> Node:
    """A node that asks 25,000 / 75,000."""
    return Node(market, "dear").register().quote(25_000, 75_000)


@pytest.fixture
def probation() -> Market:
    """A market whose new nodes run two jobs at once."""
    terms = msgspec.structs.replace(Market().configuration.nodes, probation_slots=2)
    return Market(nodes=terms)
