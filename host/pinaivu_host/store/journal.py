"""The journal: the one writer of leaves, in a thread of its own, many pushes to a transaction (group commit).

The event loop puts pushed leaves into a queue and never waits for the disk. After each commit the loop learns the new
size: whoever waits in `durable` goes on, and the enclave is sent its acknowledgement. A database that fails is tried
again for ever with everything that was not committed; a leaf that contradicts a stored one ends the journal.
"""

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import SQLAlchemyError

from pinaivu_host.errors import CoordinatorUnavailableError, JournalConflictError
from pinaivu_host.store.database import Database
from pinaivu_host.store.leaf_rows import JobRecord
from pinaivu_host.store.projection import Transaction, load_tree
from pinaivu_host.store.schema import CHECKPOINTS, LEAVES
from pinaivu_host.store.writer import Writer

logger = logging.getLogger(__name__)

BATCH_LEAVES_MAX: Final = 512
BACKLOG_LEAVES_MAX: Final = 4096
"""With more leaves than this waiting for the disk, the link is not read any further."""
CHECKPOINT_DELAY_S: Final = 0.2
RETRY_DELAY_S: Final = 0.5
LEAVES_PER_QUERY: Final = 256

_FORGET_CHECKPOINT: Final = delete(CHECKPOINTS)
_KEEP_CHECKPOINT: Final = insert(CHECKPOINTS)


@dataclass(frozen=True, slots=True)
class _PushedLeaf:
    index: int
    leaf: bytes


@dataclass(frozen=True, slots=True)
class _PushedCheckpoint:
    size: int
    note: str


@dataclass(frozen=True, slots=True)
class _Flush:
    done: asyncio.Future[None]


class _Stop:
    pass


_Entry = _PushedLeaf | _PushedCheckpoint | _Flush | _Stop


class Journal:
    """Stores leaves in order, and says when they are durable. Methods belong to the event loop that called `start`."""

    def __init__(self, database: Database) -> None:
        self.on_durable: Callable[[], None] = _nothing
        self.on_conflict: Callable[[JournalConflictError], None] = _ignore
        self.records: Final[dict[str, JobRecord]] = {}
        self._database, self._writer = database, Writer(database.engine)
        self._entries: queue.SimpleQueue[_Entry] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._stopping = threading.Event()
        self._size = 0
        self._backlog = 0
        self._room = asyncio.Event()
        self._room.set()
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        self._checkpoint: _PushedCheckpoint | None = None
        self._checkpoint_came = asyncio.Event()
        self._failed = False

    async def start(self) -> None:
        """Load where the stored log ends and begin to write."""
        self._loop = asyncio.get_running_loop()
        self._tree = await self._database.read(load_tree)
        self._size = self._tree.size
        self._thread.start()

    async def close(self) -> None:
        """Write what was pushed so far, then stop."""
        self._stopping.set()
        self._entries.put(_Stop())
        await asyncio.to_thread(self._thread.join)

    @property
    def size(self) -> int:
        """How many leaves are durable."""
        return self._size

    @property
    def failed(self) -> bool:
        """Whether a conflict or a bug ended the journal."""
        return self._failed

    @property
    def backlog(self) -> int:
        """How many leaves wait for the disk."""
        return self._backlog

    def append(self, index: int, leaf: bytes) -> None:
        """Store this leaf soon; `records` says whose receipt it is, if it is one."""
        self._backlog += 1
        if self._backlog >= BACKLOG_LEAVES_MAX:
            self._room.clear()
        self._entries.put(_PushedLeaf(index, leaf))

    async def room(self) -> None:
        """Wait until fewer than BACKLOG_LEAVES_MAX leaves wait for the disk."""
        await self._room.wait()

    async def durable(self, index: int) -> None:
        """Wait until the leaf is on disk; CoordinatorUnavailableError if it never will be."""
        if index < self._size:
            return
        if self._failed:
            raise CoordinatorUnavailableError("the journal has ended")
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(index, []).append(waiter)
        await waiter

    async def flush(self) -> None:
        """Wait until everything pushed so far was written."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._entries.put(_Flush(done))
        await done

    def keep_checkpoint(self, size: int, note: str) -> None:
        """Remember the newest signed checkpoint; it reaches the disk with the next leaves, or a little later."""
        self._checkpoint = _PushedCheckpoint(size, note)
        self._checkpoint_came.set()
        self._entries.put(self._checkpoint)

    async def checkpoint_over(self, index: int) -> tuple[int, str]:
        """Size and note of the newest checkpoint, once it covers leaf `index`. Never ends if none ever does."""
        while True:
            if self._checkpoint is None:
                await self._load_checkpoint()
            if self._checkpoint is not None and self._checkpoint.size > index:
                return self._checkpoint.size, self._checkpoint.note
            self._checkpoint_came.clear()
            await self._checkpoint_came.wait()

    async def last_checkpoint(self) -> str:
        """The newest checkpoint's note, empty if there is none."""
        if self._checkpoint is None:
            await self._load_checkpoint()
        return self._checkpoint.note if self._checkpoint else ""

    async def read_leaves(self, start: int, *, max_bytes: int) -> list[bytes]:
        """Stored leaves from index `start` on, as many as fit, at least one if there is one."""
        in_order = select(LEAVES.c.leaf).where(LEAVES.c.leaf_index >= start).order_by(LEAVES.c.leaf_index)
        query = in_order.limit(LEAVES_PER_QUERY)
        leaves: Sequence[bytes] = await self._database.read(lambda c: c.execute(query).scalars().all())
        fitting: list[bytes] = []
        size_bytes = 0
        for leaf in leaves:
            size_bytes += len(leaf)
            if fitting and size_bytes > max_bytes:
                break
            fitting.append(leaf)
        return fitting

    async def _load_checkpoint(self) -> None:
        query = select(CHECKPOINTS.c.size, CHECKPOINTS.c.note).order_by(CHECKPOINTS.c.size.desc()).limit(1)
        row = await self._database.read(lambda c: c.execute(query).first())
        if row is not None and self._checkpoint is None:
            self._checkpoint = _PushedCheckpoint(row.size, row.note)

    # What follows runs in the journal's thread, but for _committed, _conflicted and _fail.

    def _write_all(self) -> None:
        try:
            self._write_until_stopped()
        except Exception:
            logger.exception("the journal has died")
            self._loop.call_soon_threadsafe(self._fail)
        finally:
            self._writer.close()

    def _write_until_stopped(self) -> None:
        checkpoint: _PushedCheckpoint | None = None
        stop = False
        while not stop:
            batch = self._next_batch(waiting_checkpoint=checkpoint is not None)
            leaves = [entry for entry in batch if isinstance(entry, _PushedLeaf)]
            checkpoint = next((e for e in reversed(batch) if isinstance(e, _PushedCheckpoint)), checkpoint)
            stop = any(isinstance(entry, _Stop) for entry in batch)
            if leaves or stop or not batch:
                self._commit(leaves, checkpoint)
                checkpoint = None
            for entry in batch:
                if isinstance(entry, _Flush):
                    self._loop.call_soon_threadsafe(_resolve, entry.done)

    def _next_batch(self, *, waiting_checkpoint: bool) -> list[_Entry]:
        """Everything that waits, at least one entry; nothing if only a checkpoint waited and its time has come."""
        batch: list[_Entry] = []
        with contextlib.suppress(queue.Empty):
            batch.append(self._entries.get(timeout=CHECKPOINT_DELAY_S if waiting_checkpoint else None))
            while len(batch) < BATCH_LEAVES_MAX:
                batch.append(self._entries.get_nowait())
        return batch

    def _commit(self, leaves: list[_PushedLeaf], checkpoint: _PushedCheckpoint | None) -> None:
        if self._failed:
            return
        conflict = None
        while True:
            try:
                conflict = self._try_commit(leaves, checkpoint)
                break
            except SQLAlchemyError:
                logger.exception("the journal cannot be written, trying again")
                if self._stopping.wait(RETRY_DELAY_S):
                    return
                self._reload()
        if conflict is not None:
            self._failed = True
            self._loop.call_soon_threadsafe(self._conflicted, conflict)
        else:
            self._loop.call_soon_threadsafe(self._committed, self._tree.size, len(leaves))

    def _try_commit(
        self, leaves: list[_PushedLeaf], checkpoint: _PushedCheckpoint | None
    ) -> JournalConflictError | None:
        transaction = Transaction(self._tree, self.records.get)
        conflict = None
        with self._writer.begin() as connection:
            try:
                for entry in leaves:
                    transaction.add(connection, entry.index, entry.leaf)
            except JournalConflictError as error:
                conflict = error
            transaction.write(connection)
            if checkpoint is not None:
                connection.execute(_FORGET_CHECKPOINT)
                connection.execute(_KEEP_CHECKPOINT, [{"size": checkpoint.size, "note": checkpoint.note}])
        self._tree = transaction.tree
        return conflict

    def _reload(self) -> None:
        try:
            with self._database.engine.connect() as connection:
                self._tree = load_tree(connection)
        except SQLAlchemyError:
            logger.exception("the journal cannot be read")

    def _committed(self, size: int, written: int) -> None:
        previous, self._size = self._size, size
        self._backlog -= written
        if self._backlog < BACKLOG_LEAVES_MAX:
            self._room.set()
        for index in range(previous, size) if self._waiting else ():
            for waiter in self._waiting.pop(index, ()):
                _resolve(waiter)
        if written:
            self.on_durable()

    def _conflicted(self, conflict: JournalConflictError) -> None:
        self._size = self._tree.size
        self._fail()
        self.on_conflict(conflict)

    def _fail(self) -> None:
        self._failed = True
        self._room.set()
        waiting, self._waiting = self._waiting, {}
        for waiter in (one for some in waiting.values() for one in some):
            if not waiter.done():
                waiter.set_exception(CoordinatorUnavailableError("the journal has ended"))


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _nothing() -> None:
    pass


def _ignore(_conflict: JournalConflictError) -> None:
    pass
