"""The journal: leaves in order, once, durable before anybody says so; nothing is ever overwritten."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.exc import OperationalError

from pinaivu_host.errors import CoordinatorUnavailableError, JournalConflictError
from pinaivu_host.store.database import Database
from pinaivu_host.store.engine import sqlite_url
from pinaivu_host.store.evidence import EvidenceStore
from pinaivu_host.store.journal import BACKLOG_LEAVES_MAX, Journal
from pinaivu_host.store.schema import CHECKPOINTS, LEAVES, TREE_NODES
from pinaivu_shared.ids import digest_of
from pinaivu_shared.log.merkle import leaf_hash
from pinaivu_shared.log.proof import parse_proof
from pinaivu_shared.log.tree import CompactRange, inclusion_proof

pytestmark = [pytest.mark.anyio, pytest.mark.every_database]


class Opened:
    """A journal over a database."""

    def __init__(self, database_url: str) -> None:
        self.database = Database(database_url)
        self.journal = Journal(self.database)
        self.commits = 0
        event.listen(self.database.engine, "commit", self._count)

    def _count(self, _connection: object) -> None:
        self.commits += 1

    async def close(self) -> None:
        await self.journal.close()
        self.database.close()


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[Opened]:
    found = Opened(database_url)
    await found.journal.start()
    yield found
    await found.close()


def leaf(index: int) -> bytes:
    return b"leaf %d" % index


async def stored(journal: Journal) -> list[bytes]:
    leaves: list[bytes] = []
    while found := await journal.read_leaves(len(leaves), max_bytes=100):
        leaves += found
    return leaves


async def test_many_pushes_share_a_commit(opened: Opened) -> None:
    for index in range(1000):
        opened.journal.append(index, leaf(index))
    await opened.journal.durable(999)
    assert opened.journal.size == 1000
    assert opened.commits < 20
    assert await stored(opened.journal) == [leaf(index) for index in range(1000)]


async def test_durable_means_committed(opened: Opened) -> None:
    waiter = asyncio.ensure_future(opened.journal.durable(1))
    opened.journal.append(0, leaf(0))
    await opened.journal.durable(0)
    assert not waiter.done()
    opened.journal.append(1, leaf(1))
    await waiter
    with opened.database.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(LEAVES)).scalar() == 2


async def test_a_reopened_journal_goes_on_where_it_ended(database_url: str) -> None:
    for start in range(0, 300, 100):
        opened = Opened(database_url)
        await opened.journal.start()
        assert opened.journal.size == start
        for index in range(start, start + 100):
            opened.journal.append(index, leaf(index))
        await opened.close()
    opened = Opened(database_url)
    await opened.journal.start()
    assert await stored(opened.journal) == [leaf(index) for index in range(300)]
    with opened.database.engine.connect() as connection:
        rows = connection.execute(select(TREE_NODES)).all()
    nodes = {(row.level, row.node_index): row.hash for row in rows}
    tree = CompactRange()
    assert set(nodes.items()) == {
        ((level, at), subtree) for index in range(300) for level, at, subtree in tree.append(leaf_hash(leaf(index)))
    }
    await opened.close()


async def test_a_leaf_that_comes_again_is_welcome(opened: Opened) -> None:
    acknowledgements = 0

    def count() -> None:
        nonlocal acknowledgements
        acknowledgements += 1

    opened.journal.on_durable = count
    for index in (0, 1, 0, 1, 2, 1):
        opened.journal.append(index, leaf(index))
    await opened.journal.flush()
    opened.journal.append(0, leaf(0))
    await opened.journal.flush()
    assert await stored(opened.journal) == [leaf(0), leaf(1), leaf(2)]
    assert acknowledgements >= 2


@pytest.mark.parametrize(
    ("index", "content", "found"), [(1, b"other", digest_of(leaf(1))), (7, b"early", "nothing yet")]
)
@pytest.mark.parametrize("together", [False, True])
async def test_another_leaf_is_a_conflict_and_nothing_is_overwritten(
    opened: Opened, index: int, content: bytes, found: str, *, together: bool
) -> None:
    conflicts: list[JournalConflictError] = []
    opened.journal.on_conflict = conflicts.append
    for good in range(3):
        opened.journal.append(good, leaf(good))
    if not together:
        await opened.journal.durable(2)
    waiting = asyncio.ensure_future(opened.journal.durable(50))
    await asyncio.sleep(0)
    opened.journal.append(index, content)
    opened.journal.append(3, leaf(3))
    with pytest.raises(CoordinatorUnavailableError):
        await waiting
    await opened.journal.flush()
    assert (conflicts[0].stored, conflicts[0].pushed) == (found, digest_of(content))
    assert opened.journal.failed
    assert await stored(opened.journal) == [leaf(0), leaf(1), leaf(2)]
    with pytest.raises(CoordinatorUnavailableError):
        await opened.journal.durable(3)


async def test_a_database_that_fails_is_tried_again(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinaivu_host.store.journal.RETRY_DELAY_S", 0.01)
    failures = iter(range(3))

    def fail(*_: object) -> None:
        if next(failures, None) is not None:
            raise OperationalError("INSERT", {}, Exception("disk full"))

    event.listen(opened.database.engine, "before_cursor_execute", fail)
    opened.journal.append(0, leaf(0))
    opened.journal.append(1, leaf(1))
    await opened.journal.durable(1)
    assert await stored(opened.journal) == [leaf(0), leaf(1)]


async def test_in_a_file_all_is_written_over_one_connection(tmp_path: Path) -> None:
    opened = Opened(sqlite_url(tmp_path))
    taken: list[object] = []
    event.listen(opened.database.engine, "checkout", lambda connection, *_: taken.append(connection))
    await opened.journal.start()
    for index in range(3):
        opened.journal.append(index, leaf(index))
        await opened.journal.durable(index)
    assert len(taken) == 2  # to load where the log ends, and to write
    await opened.close()


async def test_the_newest_checkpoint_survives(database_url: str) -> None:
    opened = Opened(database_url)
    await opened.journal.start()
    assert await opened.journal.last_checkpoint() == ""
    opened.journal.append(0, leaf(0))
    opened.journal.keep_checkpoint(1, "one")
    waiting = asyncio.ensure_future(opened.journal.checkpoint_over(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    opened.journal.append(1, leaf(1))
    opened.journal.keep_checkpoint(2, "two")
    assert await waiting == (2, "two")
    assert await opened.journal.checkpoint_over(0) == (2, "two")
    await opened.close()
    opened = Opened(database_url)
    await opened.journal.start()
    assert await opened.journal.last_checkpoint() == "two"
    with opened.database.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(CHECKPOINTS)).scalar() == 1
    await opened.close()


async def test_a_checkpoint_is_stored_even_if_no_leaf_follows(opened: Opened) -> None:
    stored_at = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def seen(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO checkpoints"):
            loop.call_soon_threadsafe(stored_at.set_result, None)

    event.listen(opened.database.engine, "after_cursor_execute", seen)
    opened.journal.keep_checkpoint(1, "one")
    await stored_at


async def test_too_many_waiting_leaves_hold_up_the_link(opened: Opened) -> None:
    for index in range(BACKLOG_LEAVES_MAX):
        opened.journal.append(index, leaf(index))
    room = asyncio.ensure_future(opened.journal.room())
    await asyncio.sleep(0)
    assert not room.done()
    await room
    await opened.journal.durable(BACKLOG_LEAVES_MAX - 1)


async def test_proofs_come_out_of_the_stored_tree(opened: Opened) -> None:
    for index in range(77):
        opened.journal.append(index, leaf(index))
    await opened.journal.durable(76)
    nodes: dict[tuple[int, int], bytes] = {}
    tree = CompactRange()
    for index in range(77):
        nodes |= {(level, at): subtree for level, at, subtree in tree.append(leaf_hash(leaf(index)))}
    evidence = EvidenceStore(opened.database)
    for index, size in ((0, 1), (0, 77), (76, 77), (40, 50), (63, 64)):
        proof = parse_proof(await evidence.log_proof(index, size=size, checkpoint="checkpoint\n"))
        assert proof.index == index
        assert list(proof.hashes) == inclusion_proof(index, size, lambda level, at: nodes[level, at])
