"""Fixtures of the host's tests. What is marked `every_database` runs on SQLite and PostgreSQL, all else on SQLite."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.host.office import Office
from tests.host.postgres import MISSING, PostgresServer, programs, running
from tests.host.town import Town

from pinaivu_host.store.engine import sqlite_url

KINDS = ("sqlite", "postgresql")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_database: runs on SQLite and PostgreSQL, by the fixture database_url")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    everywhere = metafunc.definition.get_closest_marker("every_database") is not None
    if everywhere and "database_url" in metafunc.fixturenames:
        metafunc.parametrize("database_url", KINDS, indirect=True)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    binaries = programs()
    if binaries is None:
        pytest.skip(MISSING)
    with running(binaries) as server:
        yield server


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an empty database is, or will be once it is opened."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield sqlite_url(tmp_path / "data")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database() as url:
            yield url


@pytest.fixture
def closed_town(tmp_path: Path, database_url: str) -> Town:
    return Town(tmp_path, database_url)


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


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    found = await Office(database_url).open()
    yield found
    await found.close()
