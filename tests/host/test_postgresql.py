"""A host on PostgreSQL: a request and its receipt, a log that goes on, and a server that is not as it should be."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.host.fake_enclave import FakeEnclave
from tests.host.postgres import PostgresServer
from tests.host.program import free_port, served
from tests.host.shape import check_shape
from tests.host.town import Town, request

from pinaivu_host.cli import host
from pinaivu_host.store.database import Database
from pinaivu_host.store.engine import is_lost, parse_url
from pinaivu_host.store.journal import Journal
from pinaivu_shared.errors import CallerError

pytestmark = pytest.mark.anyio


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database() as found:
        yield found


async def test_after_a_restart_of_host_and_enclave_the_log_goes_on(tmp_path: Path, url: str) -> None:
    town = await Town(tmp_path, url).open()
    await town.node()
    first = (await town.chat()).json()["request_id"]
    receipt = (await town.client().get(f"/v1/receipts/{first}")).content
    leaves = list(town.enclave.leaves)
    await town.close()

    town.enclave = FakeEnclave(town.enclave.path)
    town.nodes.clear()
    await town.enclave.start()
    await town.open_host()
    await town.host.link.wait_ready()
    await town.node()
    assert (await town.client().get(f"/v1/receipts/{first}")).content == receipt
    second = (await town.chat()).json()["request_id"]
    bundle = await town.client().get(f"/v1/receipts/{second}/bundle")
    assert bundle.status_code == 200, bundle.text
    assert town.enclave.leaves[: len(leaves)] == leaves
    assert town.host.journal.size == len(town.enclave.leaves) > len(leaves)
    await town.close()


async def test_the_command_serves_from_it(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    create = ["create-key", "--create", "--database-url", url, "--account", "dev"]
    assert await asyncio.to_thread(host, create) == 0
    api_key = capsys.readouterr().out.strip()
    enclave, port = FakeEnclave(tmp_path / "enclave.sock"), free_port()
    await enclave.start()
    async with served(tmp_path, port, "--database-url", url) as process, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/v1/models", headers={"authorization": f"Bearer {api_key}"})
        assert answer.json() == {"object": "list", "data": []}
        process.send_signal(signal.SIGTERM)
        _, logged = await process.communicate()
        assert (process.returncode, b"Traceback" in logged) == (0, False)
    await enclave.stop()


async def test_a_journal_whose_connections_are_cut_goes_on(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinaivu_host.store.journal.RETRY_DELAY_S", 0.01)
    database, other = Database(url), Database(url)
    journal = Journal(database)
    await journal.start()
    cut = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    for index in range(3):
        journal.append(index, b"leaf %d" % index)
        await journal.durable(index)
        with other.engine.connect() as connection:
            connection.execute(cut)
    assert await journal.read_leaves(0, max_bytes=1000) == [b"leaf 0", b"leaf 1", b"leaf 2"]
    await journal.close()
    database.close()
    other.close()


@pytest.mark.every_database
@pytest.mark.parametrize("path", ["/v1/receipts/%00", "/v1/nodes/%00", "/v1/transcripts/%00"])
async def test_an_id_with_a_nul_names_nothing(town: Town, path: str) -> None:
    assert (await town.client().get(path)).status_code == 404


async def test_while_the_database_is_away_requests_are_told_to_come_back(
    tmp_path: Path, postgres: PostgresServer, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    town = await Town(tmp_path, url).open()
    asked = [("GET", "/v1/usage", None), ("POST", "/v1/chat/completions", request())]
    with postgres.away(url):
        for method, path, body in asked:
            town.host.accounts._cache.known.clear()
            answer = await town.client().request(method, path, json=body)
            check_shape(answer, 503, "server_error", "database_unavailable")
            assert answer.headers["retry-after"] == "1"
    assert caplog.messages.count("the database cannot be reached") == len(asked)
    assert (await town.client().get("/v1/usage")).status_code == 200, "it is back"
    await town.close()


def test_what_is_wrong_with_a_query_is_no_lost_database(url: str) -> None:
    database = Database(url)
    for query in ("SELEC", "SELECT 1/0", "SELECT pg_sleep(1)"):
        with database.engine.connect() as connection:
            connection.execute(text("SET statement_timeout = 1"))
            with pytest.raises(DBAPIError) as raised:
                connection.execute(text(query))
        assert not is_lost(raised.value), query
    database.close()


def test_a_database_that_is_not_in_unicode_is_refused(postgres: PostgresServer) -> None:
    with (
        postgres.database(options="ENCODING 'LATIN1' LOCALE 'C'") as found,
        pytest.raises(CallerError, match="is in LATIN1; a host needs one in UTF8"),
    ):
        Database(found)


@pytest.mark.parametrize(
    "command", [["backup", "--output", "b"], ["restore", "--input", "b"], ["create-key", "--create", "--account", "a"]]
)
def test_a_server_that_cannot_be_reached_is_said_in_a_line_without_the_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    url = f"postgresql+psycopg://pinaivu:hunter2@/market?host={tmp_path}"
    assert host([*command, "--database-url", url]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"pinaivu host: the database market of PostgreSQL at {tmp_path}: connection")
    assert "hunter2" not in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("url", ["mysql://h/d", "postgresql+asyncpg://h/d", "postgres://h/d", "sqlite+aiosqlite:///f"])
def test_other_databases_and_drivers_are_refused(url: str) -> None:
    with pytest.raises(CallerError, match="is not supported; give postgresql"):
        parse_url(url)
