"""Fixtures of the host's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.host.town import Town


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def closed_town(tmp_path: Path) -> Town:
    return Town(tmp_path)


@pytest.fixture
async def town(closed_town: Town) -> AsyncIterator[Town]:
    await closed_town.open()
    yield closed_town
    await closed_town.close()


@pytest.fixture
async def openable(closed_town: Town) -> AsyncIterator[Town]:
    """A town whose settings the test decides before it opens it; closed for the test, which must have opened it."""
    yield closed_town
    await closed_town.close()
