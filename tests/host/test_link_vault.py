"""The sealed vault of a log, over the enclave link: stored before anything depends on it, never asked for anew."""

import asyncio

import pytest
from sqlalchemy import create_engine, delete, select
from tests.host.fake_enclave import FakeEnclave
from tests.host.town import Town

from pinaivu_host.link_connection import VAULT_LIMIT_S
from pinaivu_host.store.engine import sqlite_url
from pinaivu_host.store.schema import SEALED_VAULTS
from pinaivu_shared.wire.link_boot import MAX_SEALED_VAULT_BYTES, Configure, FinishResume, Introduce, OpenVault, Resume

pytestmark = pytest.mark.anyio


async def test_the_vault_is_opened_and_stored_before_the_log_goes_on(town: Town) -> None:
    boot = [Introduce, Configure, OpenVault, FinishResume]
    assert [type(command) for command in town.enclave.commands][:4] == boot
    assert town.enclave.all_of(OpenVault)[0].sealed == b""
    assert await town.host.link.vault.load() == town.enclave.sealed_vault
    enclave = await town.replace_enclave()
    await enclave.heard(FinishResume)
    assert [type(command) for command in enclave.commands][:5] == [
        Introduce,
        Configure,
        OpenVault,
        Resume,
        FinishResume,
    ]
    assert enclave.all_of(OpenVault)[0].sealed == enclave.sealed_vault


async def test_a_log_that_has_not_begun_asks_for_a_vault_of_its_own_and_sets_the_stored_one_aside(
    closed_town: Town,
) -> None:
    """A vault sealed before the log began may be anybody's; the enclave would not begin a log with it."""
    town = closed_town
    town.enclave.refused[FinishResume] = "later"
    await town.enclave.start()
    await town.open_host()
    await town.enclave.heard(OpenVault, count=2)
    former = town.enclave.sealed_vault
    assert await town.host.link.vault.load() == former
    asked = town.enclave.all_of(OpenVault)
    await town.enclave.stop()
    town.enclave = FakeEnclave(town.enclave.path)
    town.enclave.sealed_vault = b"sealed by the next enclave"
    town.enclave.refused[FinishResume] = "later"
    await town.enclave.start()
    await town.enclave.heard(OpenVault, count=2)
    town.enclave.refused = {}
    await town.host.link.wait_ready()
    assert {one.sealed for one in asked + town.enclave.all_of(OpenVault)} == {b""}
    assert await town.host.link.vault.load() == b"sealed by the next enclave"
    await town.close()
    engine = create_engine(sqlite_url(town.folder / "data"))
    with engine.connect() as connection:
        rows = connection.execute(select(SEALED_VAULTS).where(SEALED_VAULTS.c.sealed == former)).all()
    engine.dispose()
    assert [row.origin.startswith(f"{town.host.link.vault.origin} until ") for row in rows] == [True]


async def test_a_vault_that_cannot_be_opened_is_tried_again(closed_town: Town) -> None:
    town = closed_town
    town.enclave.refused[OpenVault] = "vault"
    await town.enclave.start()
    await town.open_host()
    await town.enclave.heard(OpenVault, count=2)
    assert town.enclave.all_of(Resume) + town.enclave.all_of(FinishResume) == []
    assert await town.host.link.vault.load() == b""
    town.enclave.refused = {}
    await town.host.link.wait_ready()
    await town.close()


async def test_another_vault_ends_the_link_and_the_stored_one_stays(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    stored = town.enclave.sealed_vault
    await town.enclave.stop()
    town.enclave = FakeEnclave(town.enclave.path)
    town.enclave.sealed_vault = b"sealed by another"
    await town.enclave.start()
    enclave = await town.ended_link()
    assert enclave.all_of(Resume) + enclave.all_of(FinishResume) == []
    assert await town.host.link.vault.load() == stored
    (record,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert record.kv["code"] == "vault_conflict"  # type: ignore[attr-defined]  # our own extra


async def test_a_log_whose_vault_is_lost_asks_for_no_new_one(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    await town.host.journal.durable(1)
    with town.host._database.engine.begin() as connection:
        connection.execute(delete(SEALED_VAULTS))
    await town.replace_enclave()
    enclave = await town.ended_link()
    assert enclave.all_of(OpenVault) == []
    (record,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert record.kv["code"] == "vault_lost"  # type: ignore[attr-defined]  # our own extra
    assert "restore the table sealed_vaults" in record.kv["error"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("sealed", [b"", bytes(MAX_SEALED_VAULT_BYTES + 1)])
async def test_a_vault_of_no_size_to_store_is_not_stored(closed_town: Town, sealed: bytes) -> None:
    town = closed_town
    town.enclave.sealed_vault = sealed
    await town.enclave.start()
    await town.open_host()
    await town.enclave.heard(Introduce, count=2)
    assert await town.host.link.vault.load() == b""
    assert town.enclave.all_of(FinishResume) == []
    await town.close()


async def test_a_vault_may_take_longer_than_any_other_call(closed_town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinaivu_host.link_connection.CALL_LIMIT_S", 0.1)
    town = closed_town
    town.enclave.silent_on = (OpenVault,)
    await town.enclave.start()
    await town.open_host()
    await town.enclave.heard(OpenVault)
    assert town.host.link._opened is not None
    opened = town.host.link._opened
    limits = {number: deadline for number, (_, deadline) in opened._waiting.items()}
    now = asyncio.get_running_loop().time()
    assert [round(deadline - now, -1) for deadline in limits.values()] == [VAULT_LIMIT_S]
    await town.close()
