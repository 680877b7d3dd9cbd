"""The tables of receipts and of what keys were charged, made again from the leaves."""

from pathlib import Path

import pytest
from sqlalchemy import delete, select, update
from tests.host.office import DAY_S, FIRST_DAY_S, KEY_1, OTHER, Office

from pinaivu_host.cli import host
from pinaivu_host.store.key_charges import month_start_ms
from pinaivu_host.store.rebuild import rebuild_receipts
from pinaivu_host.store.schema import KEY_CHARGES, LEAVES, RECEIPTS
from pinaivu_shared.ids import request_time_ms
from pinaivu_shared.money import parse_usdc

pytestmark = [pytest.mark.anyio, pytest.mark.every_database]


async def test_the_charges_of_a_key_are_summed_beside_its_receipts_and_made_again_from_them(office: Office) -> None:
    receipts = [office.serve(key_id=key_id) for key_id in (KEY_1, None, KEY_1)]
    await office.take()
    office.days_pass(62)
    receipts.append(office.serve(key_id=KEY_1))
    await office.take()
    charges = [parse_usdc(one.charge_amount) for one in receipts]
    expected = {
        (KEY_1, month_start_ms(request_time_ms(receipts[0].request_id)), charges[0] + charges[2]),
        (KEY_1, month_start_ms(request_time_ms(receipts[3].request_id)), charges[3]),
    }
    query = select(KEY_CHARGES)
    for change in (None, update(KEY_CHARGES).values(charged_micro_usdc=1), delete(KEY_CHARGES)):
        if change is not None:
            await office.change(change)
            await office.database.write(rebuild_receipts)
        stored = await office.database.read(lambda found: found.execute(query).all())
        assert {tuple(row) for row in stored} == expected


async def test_usage_is_the_same_once_its_table_was_dropped_and_made_from_the_leaves(office: Office) -> None:
    for _ in range(3):
        office.serve()
        office.days_pass(1)
    await office.take()
    period = {"start_time": FIRST_DAY_S, "end_time": FIRST_DAY_S + 4 * DAY_S, "group_by": "model"}
    before = (await office.rows(), await office.get("/usage", **period), await office.get("/receipts"))
    RECEIPTS.drop(office.database.engine)
    RECEIPTS.create(office.database.engine)
    assert await office.rows() == []
    await office.database.write(rebuild_receipts)
    after = (await office.rows(), await office.get("/usage", **period), await office.get("/receipts"))
    assert after[1:] == before[1:]
    assert len(before[0]) == 3
    gone = {"salt": None, "key_id": None}
    assert after[0] == [row | gone for row in before[0]], "a salt is in no leaf, nor which key asked"


async def test_rebuilding_sets_right_what_was_wrong_and_keeps_the_salts(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinaivu_host.store.rebuild.BATCH_LEAVES", 2)
    receipts = [office.serve() for _ in range(3)]
    await office.take()
    before = await office.rows()
    first, second, third = (RECEIPTS.c.request_id == one.request_id for one in receipts)
    invented = {**before[0], "request_id": "req_invented", "leaf_index": 10_000}
    planted = {**invented, "request_id": "req_planted", "leaf_index": -1 - before[0]["leaf_index"]}
    changes = (
        update(RECEIPTS).where(first).values(charge_micro_usdc=1, account_id=OTHER, leaf_index=20_000),
        update(RECEIPTS).where(second).values(leaf_index=before[0]["leaf_index"]),
        delete(RECEIPTS).where(third),
        RECEIPTS.insert().values(invented),
        RECEIPTS.insert().values(planted),
    )
    await office.database.write(lambda connection: [connection.execute(change).rowcount for change in changes])
    await office.database.write(rebuild_receipts)
    assert await office.rows() == [*before[:2], before[2] | {"salt": None, "key_id": None}]
    assert before[0]["salt"] == b"s" * 32


async def test_the_command_makes_the_tables_anew_out_of_a_log_that_is_whole(
    office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    url = office.database.engine.url.render_as_string(hide_password=False)
    command = ["rebuild", "--database-url", url]
    for _ in range(3):
        office.serve(key_id=KEY_1)
    await office.take()
    before = await office.rows()
    await office.change(update(RECEIPTS).values(charge_micro_usdc=1))
    await office.change(delete(KEY_CHARGES))
    assert host(command) == 0
    said = capsys.readouterr()
    assert said.out == "receipts 3\nreceipts_without_key 0\n"
    assert said.err.startswith(f"pinaivu host: rebuilt; the log has {len(office.market.leaves)} leaves")
    assert await office.rows() == before
    assert await office.database.read(lambda found: len(found.execute(select(KEY_CHARGES)).all())) == 1
    await office.change(update(RECEIPTS).values(charge_micro_usdc=1))
    await office.change(delete(LEAVES).where(LEAVES.c.leaf_index == 1))
    assert host(command) == 2
    assert "leaf 1 is missing" in capsys.readouterr().err
    assert {row["charge_micro_usdc"] for row in await office.rows()} == {1}, "nothing is made out of a broken log"


def test_where_no_host_was_nothing_is_rebuilt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert host(["rebuild", "--data-dir", str(tmp_path)]) == 2
    assert "there is no database of a host" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
