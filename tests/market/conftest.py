"""One market for all cheats of a file: each start of a network costs seconds."""

from collections.abc import Iterator

import pytest

from .place import Place, market


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A market with one honest node."""
    with market(tmp_path_factory.mktemp("market")) as found:
        yield found
